// An adapter on each layout: local factors as boxes over its tensors, there and back.

#include <fmt/format.h>

#include <algorithm>
#include <map>
#include <memory>
#include <set>

#include "core/base/arith.hpp"
#include "core/io/fault_text.hpp"
#include "core/lora/scaled_factors.hpp"
#include "core/move/move.hpp"
#include "core/move/tensor_maker.hpp"
#include "properties/claims/adapter.hpp"
#include "properties/claims/adapter_verdicts.hpp"
#include "properties/claims/placed_adapter.hpp"

namespace bv::claims {
namespace {

constexpr std::byte kPoisonByte{0xa5};

/// Judges each layout; one that the adapter has no form on is one verdict.
template <class Judge>
std::vector<Verdict> on_layouts(const AdapterSubject& subject, std::string_view claim,
                                const Judge& judge) {
  std::vector<Verdict> out;
  for (const parallel::Layout& layout : subject.layouts) {
    auto placed = place_adapter(subject, layout);
    Verdict verdict = placed ? judge(**placed) : not_placed(subject, claim, placed.error());
    verdict.layout = parallel::layout_id(layout);
    out.push_back(std::move(verdict));
  }
  return out;
}

Verdict tiled(const PlacedAdapter& placed) {
  const std::int64_t all = factors_of(placed.files);
  for (const convert::OutputFile& file : placed.files.files) {
    for (const convert::OutputTensor& tensor : file.tensors) {
      const auto status =
          layout::check_tiling(tensor.boxes(), element_count(tensor.spec.shape).value());
      if (!status) {
        Verdict out = of_error("adapter-coverage", status.error(), all);
        out.megatron = tensor.spec.name;
        return out;
      }
    }
  }
  Verdict out = adapter_verdict("adapter-coverage", "adapter", Outcome::Proved, all);
  out.megatron = "adapter";
  out.evidence.proved = true;
  return out;
}

/// HF tensors as they come back from the shards.
class WayBack {
 public:
  explicit WayBack(const PlacedAdapter& placed) : placed_(placed) {}

  Status run() {
    for (const convert::OutputFile& file : placed_.files.files) {
      for (const convert::OutputTensor& tensor : file.tensors) {
        BV_CHECK(add(tensor));
      }
    }
    return Done{};
  }
  /// The first tensor of the adapter that is not what it was, "" when all are.
  [[nodiscard]] std::string first_other(const lora::Adapter& adapter) const {
    for (const auto& tensor : adapter.tensors) {
      const auto found = back_.find(tensor->stored.spec.name);
      const bool same =
          found != back_.end()
              ? std::equal(tensor->bytes.begin(), tensor->bytes.end(), found->second.begin())
              : shared_.contains(tensor->stored.spec.name);
      if (!same) {
        return tensor->stored.spec.name;
      }
    }
    return "";
  }

 private:
  Status add(const convert::OutputTensor& tensor) {
    const auto elements = element_count(tensor.spec.shape).value();
    const auto boxes = tensor.boxes();
    move::TensorMaker maker(
        checkpoint::over_chunks({tensor.spec.dtype, elements, boxes, {}}, tensor.sources));
    std::vector<std::byte> shard(static_cast<std::size_t>(elements) * maker.element_bytes(),
                                 kPoisonByte);
    BV_CHECK(maker.make(ElementOffset{0}, ElementOffset{elements}, shard.data()));
    std::vector<std::size_t> unmoved;
    for (std::size_t i = 0; i < tensor.sources.size(); ++i) {
      std::vector<layout::Box> inverses;
      for (const layout::Box& box : boxes) {
        if (box.source == static_cast<std::int32_t>(i)) {
          inverses.push_back(layout::inverse(box, 0));
        }
      }
      if (inverses.empty()) {
        unmoved.push_back(i);
        continue;
      }
      const TensorSpec& spec = *tensor.sources[i].spec;
      const auto size = static_cast<std::size_t>(element_count(spec.shape).value()) *
                        static_cast<std::size_t>(bytes(spec.dtype));
      const auto place = back_.try_emplace(spec.name, size, kPoisonByte).first;
      const auto fold = placed_.files.folds.find(&spec);
      move_back(inverses,
                fold == placed_.files.folds.end()
                    ? shard
                    : lora::times_power(shard, tensor.spec.dtype, -fold->second),
                tensor.spec.dtype, spec.dtype, place->second);
    }
    note_shared(tensor.sources, unmoved);
    return Done{};
  }

  static void move_back(const std::vector<layout::Box>& boxes, const std::vector<std::byte>& shard,
                        DType from, DType to, std::vector<std::byte>& out) {
    if (from == to) {
      const std::byte* first = shard.data();
      move::make_whole(boxes, {&first, 1}, static_cast<std::size_t>(bytes(to)), out.data());
      return;
    }
    for (const layout::Box& box : boxes) {
      move::cast_box(box, shard.data(), from, out.data(), 0, to);
    }
  }

  /// A layer has one A for pairs whose A are equal: those that are not moved must be equal, bit for
  /// bit, to one of the same layer that is.
  void note_shared(const std::vector<checkpoint::SourceTensor>& sources,
                   const std::vector<std::size_t>& unmoved) {
    for (const std::size_t i : unmoved) {
      checkpoint::TensorBytes one(sources[i]);
      const auto wanted = one.read({}, one.size());
      for (std::size_t j = 0; j < sources.size(); ++j) {
        const bool moved = std::find(unmoved.begin(), unmoved.end(), j) == unmoved.end();
        if (!moved || sources[j].spec->shape != sources[i].spec->shape ||
            sources[j].spec->dtype != sources[i].spec->dtype) {
          continue;
        }
        checkpoint::TensorBytes other(sources[j]);
        const auto found = other.read({}, other.size());
        if (std::equal(wanted.begin(), wanted.end(), found.begin(), found.end())) {
          shared_.insert(sources[i].spec->name);
        }
      }
    }
  }

  const PlacedAdapter& placed_;
  std::map<std::string, std::vector<std::byte>> back_;
  std::set<std::string> shared_;  // not moved: an equal one of the layer is
};

Verdict came_back(const AdapterSubject& subject, const PlacedAdapter& placed) {
  const std::int64_t all = std::ssize(subject.adapter->tensors);
  WayBack back(placed);
  if (const auto status = back.run(); !status) {
    return of_error("adapter-bytes", status.error(), all);
  }
  const std::string other = back.first_other(*subject.adapter);
  Verdict out = adapter_verdict("adapter-bytes", "adapter",
                                other.empty() ? Outcome::Held : Outcome::Refuted, all);
  out.megatron = "adapter";
  out.evidence.bytes = other.empty();
  if (!other.empty()) {
    out.code = Code::BytesDiffer;
    out.title = fmt::format("{} does not come back as it was", io::in_quotes(other));
    out.found = "other bytes";
    out.wanted = "the bytes of the adapter";
    out.help = "report it: the way of this program is at fault";
  }
  return out;
}

}  // namespace

std::vector<Verdict> check_adapter_coverage(const AdapterSubject& subject) {
  return on_layouts(subject, "adapter-coverage",
                    [](const PlacedAdapter& placed) { return tiled(placed); });
}

std::vector<Verdict> check_adapter_placement(const AdapterSubject& subject) {
  std::vector<Verdict> out;
  AdapterPlacement placement(subject);
  for (const parallel::Layout& layout : subject.layouts) {
    const auto placed = place_adapter(subject, layout);
    std::vector<Verdict> verdicts;
    if (placed) {
      verdicts = placement.judge(**placed);
    } else {
      verdicts.push_back(not_placed(subject, "adapter-placement", placed.error()));
    }
    for (Verdict& verdict : verdicts) {
      verdict.layout = parallel::layout_id(layout);
      out.push_back(std::move(verdict));
    }
  }
  return out;
}

std::vector<Verdict> check_adapter_bytes(const AdapterSubject& subject) {
  return on_layouts(subject, "adapter-bytes",
                    [&](const PlacedAdapter& placed) { return came_back(subject, placed); });
}

std::vector<std::optional<Error>> indivisible_layouts(const AdapterSubject& subject) {
  std::vector<std::optional<Error>> out(subject.layouts.size());
  for (std::size_t i = 0; i < out.size(); ++i) {
    auto placed = place_adapter(subject, subject.layouts[i]);
    if (!placed && placed.error().code == Code::IndivisibleDim) {
      out[i] = placed.error();
    }
  }
  return out;
}

}  // namespace bv::claims
