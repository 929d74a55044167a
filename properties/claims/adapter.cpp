#include "properties/claims/adapter.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <map>
#include <memory>
#include <tuple>

#include "core/base/arith.hpp"
#include "core/base/text.hpp"
#include "core/io/fault_text.hpp"
#include "core/kinds/values.hpp"
#include "core/lora/to_megatron.hpp"
#include "core/lora/wrapped.hpp"
#include "core/move/move.hpp"
#include "core/move/tensor_maker.hpp"

namespace bv::claims {
namespace {

constexpr std::byte kPoisonByte{0xa5};

bool is_of_shapes(Code code) {
  return code == Code::AdapterShape;
}

Verdict adapter_verdict(std::string_view claim, std::string rule, Outcome outcome,
                        std::int64_t cases) {
  Verdict out;
  out.claim = claim;
  out.rule = std::move(rule);
  out.kind = "adapter";
  out.outcome = outcome;
  out.cases = cases;
  out.refuted_cases = outcome == Outcome::Refuted ? cases : 0;
  return out;
}

Verdict of_fault(std::string_view claim, const lora::AdapterFault& fault) {
  Verdict out = adapter_verdict(claim, fault.key, Outcome::Refuted, 1);
  out.code = fault.code;
  out.megatron = fault.key;
  out.title = fault.message;
  out.found = fault.found;
  out.wanted = fault.wanted;
  out.help = fault.help;
  return out;
}

/// What an error says of the whole adapter on one layout.
Verdict of_error(std::string_view claim, const Error& error, std::int64_t cases) {
  const bool no_form = error.code == Code::AdapterNoForm || error.code == Code::IndivisibleDim ||
                       error.code == Code::ScaleWrong;
  Verdict out =
      adapter_verdict(claim, "adapter", no_form ? Outcome::Unsupported : Outcome::Refuted, cases);
  out.code = error.code;
  out.title = error.message;
  out.facts = error.facts;
  out.found = error.found;
  out.wanted = error.wanted;
  out.help = error.help;
  return out;
}

std::vector<Verdict> by_faults(const AdapterSubject& subject, std::string_view claim, bool shapes,
                               std::int64_t all) {
  std::vector<Verdict> out;
  for (const lora::AdapterFault& fault : subject.adapter->faults) {
    if (is_of_shapes(fault.code) == shapes) {
      out.push_back(of_fault(claim, fault));
    }
  }
  const auto wrong = static_cast<std::int64_t>(out.size());
  if (all > wrong) {
    Verdict rest = adapter_verdict(claim, "adapter", Outcome::Proved, all - wrong);
    rest.megatron = "adapter";
    rest.evidence.proved = true;
    out.push_back(std::move(rest));
  }
  return out;
}

/// The adapter on one layout: local factors as boxes over its tensors.
struct Placed {
  plan::Plan plan;
  std::unique_ptr<lora::SitePlan> sites;
  lora::MegatronAdapterFiles files;
};
Result<std::unique_ptr<Placed>> place(const AdapterSubject& subject,
                                      const parallel::Layout& layout) {
  BV_TRY(plan, plan::Plan::make(subject.base->model, *subject.kinds, layout));
  auto out = std::make_unique<Placed>(Placed{std::move(plan), nullptr, {}});
  BV_TRY(sites, lora::SitePlan::make(out->plan, *subject.kinds));
  out->sites = std::make_unique<lora::SitePlan>(std::move(sites));
  lora::ToMegatronOptions options;
  auto files = lora::plan_to_megatron(*subject.adapter, *out->sites, options);
  if (!files && files.error().code == Code::ScaleWrong) {
    options.canonical = true;  // pairs of different scales have that form
    files = lora::plan_to_megatron(*subject.adapter, *out->sites, options);
  }
  if (!files) {
    return std::move(files).error();
  }
  out->files = std::move(*files);
  return out;
}

std::int64_t factors_of(const lora::MegatronAdapterFiles& files) {
  std::int64_t out = 0;
  for (const convert::OutputFile& file : files.files) {
    out += static_cast<std::int64_t>(file.tensors.size());
  }
  return out;
}

/// Judges each layout; one that the adapter has no form on is one verdict.
template <class Judge>
std::vector<Verdict> on_layouts(const AdapterSubject& subject, std::string_view claim,
                                const Judge& judge) {
  std::vector<Verdict> out;
  for (const parallel::Layout& layout : subject.layouts) {
    auto placed = place(subject, layout);
    Verdict verdict = placed
                          ? judge(**placed)
                          : of_error(claim, placed.error(),
                                     std::max<std::int64_t>(std::ssize(subject.adapter->pairs), 1));
    verdict.layout = parallel::layout_id(layout);
    out.push_back(std::move(verdict));
  }
  return out;
}

Verdict tiled(const Placed& placed) {
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
  explicit WayBack(const Placed& placed) : placed_(placed) {}

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
              : is_shared(*tensor);
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
        {tensor.spec.dtype, elements, boxes, checkpoint::bytes_of(tensor.sources)});
    std::vector<std::byte> shard(static_cast<std::size_t>(elements) * maker.element_bytes(),
                                 kPoisonByte);
    BV_CHECK(maker.make(ElementOffset{0}, ElementOffset{elements}, shard.data()));
    for (std::size_t i = 0; i < tensor.sources.size(); ++i) {
      std::vector<layout::Box> inverses;
      for (const layout::Box& box : boxes) {
        if (box.source == static_cast<std::int32_t>(i)) {
          inverses.push_back(layout::inverse(box, 0));
        }
      }
      if (inverses.empty()) {
        continue;  // a factor of equal bytes is moved in its place
      }
      const TensorSpec& spec = tensor.sources[i].tensor->spec;
      const auto size = static_cast<std::size_t>(element_count(spec.shape).value()) *
                        static_cast<std::size_t>(bytes(spec.dtype));
      const auto place = back_.try_emplace(spec.name, size, kPoisonByte).first;
      move_back(inverses, shard, tensor.spec.dtype, spec.dtype, place->second);
    }
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

  /// A factor that another tensor of equal bytes stands for.
  [[nodiscard]] bool is_shared(const lora::AdapterTensor& tensor) const {
    return std::any_of(back_.begin(), back_.end(), [&](const auto& one) {
      return std::equal(tensor.bytes.begin(), tensor.bytes.end(), one.second.begin(),
                        one.second.end());
    });
  }

  const Placed& placed_;
  std::map<std::string, std::vector<std::byte>> back_;
};

Verdict came_back(const AdapterSubject& subject, const Placed& placed) {
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

void add_row(Run& run, std::string_view claim, std::string_view title, std::string_view noun,
             std::vector<Verdict> verdicts) {
  ClaimSummary row;
  row.claim = claim;
  row.title = title;
  row.noun = noun;
  for (const Verdict& verdict : verdicts) {
    row.subjects += verdict.cases;
  }
  row.vacuous = verdicts.empty();
  row.note = verdicts.empty() ? "the adapter has none" : "";
  run.claims.push_back(std::move(row));
  std::move(verdicts.begin(), verdicts.end(), std::back_inserter(run.verdicts));
}

}  // namespace

std::vector<Verdict> check_adapter_names(const AdapterSubject& subject) {
  return by_faults(subject, "adapter-names", false, subject.adapter->keys);
}

std::vector<Verdict> check_adapter_shapes(const AdapterSubject& subject) {
  const auto faults =
      std::count_if(subject.adapter->faults.begin(), subject.adapter->faults.end(),
                    [](const lora::AdapterFault& fault) { return is_of_shapes(fault.code); });
  return by_faults(subject, "adapter-shapes", true,
                   std::ssize(subject.adapter->pairs) + std::ssize(subject.adapter->biases) +
                       std::ssize(subject.adapter->replacements) + faults);
}

std::vector<Verdict> check_adapter_targets(const AdapterSubject& subject) {
  const auto gaps = lora::target_gaps(*subject.adapter, *subject.base);
  const std::int64_t all = std::max<std::int64_t>(std::ssize(subject.adapter->pairs), 1);
  if (!gaps) {
    return {of_error("adapter-targets", gaps.error(), all)};
  }
  std::vector<Verdict> out;
  const auto add = [&](const std::vector<std::string>& names, const char* what,
                       const char* wanted) {
    if (names.empty()) {
      return;
    }
    Verdict verdict = adapter_verdict("adapter-targets", what, Outcome::Refuted, std::ssize(names));
    verdict.code = Code::TargetModules;
    verdict.megatron = names.front();
    verdict.title = fmt::format("{} {}", counted(names.size(), "module"), what);
    verdict.facts = io::first_lines(names, 3);
    verdict.found = names.front();
    verdict.wanted = wanted;
    verdict.help = "name the modules in full, or write the adapter again with lora convert";
    out.push_back(std::move(verdict));
  };
  add(gaps->not_loaded, "with a pair are not loaded by PEFT",
      "a module of the class that target_modules or target_parameters names");
  add(gaps->fresh, "are wrapped by PEFT without a pair",
      "target_modules that name the adapted modules alone");
  if (out.empty()) {
    Verdict verdict = adapter_verdict("adapter-targets", "adapter", Outcome::Proved, all);
    verdict.megatron = "adapter";
    verdict.evidence.proved = true;
    out.push_back(std::move(verdict));
  }
  return out;
}

std::vector<Verdict> check_adapter_values(const AdapterSubject& subject) {
  std::vector<Verdict> out;
  for (const auto& tensor : subject.adapter->tensors) {
    const DType dtype = tensor->stored.spec.dtype;
    const auto size = static_cast<std::size_t>(bytes(dtype));
    for (std::size_t at = 0; at < tensor->bytes.size(); at += size) {
      const double value = kinds::load(tensor->bytes.data() + at, dtype);
      if (std::isfinite(value)) {
        continue;
      }
      Verdict verdict =
          adapter_verdict("adapter-values", tensor->stored.spec.name, Outcome::Refuted, 1);
      verdict.code = Code::AdapterNotFinite;
      verdict.megatron = tensor->stored.spec.name;
      verdict.title = fmt::format("{} holds {} at element {}",
                                  io::in_quotes(tensor->stored.spec.name), value, at / size);
      verdict.found = fmt::format("{}", value);
      verdict.wanted = "finite numbers";
      verdict.help = "train the adapter again, or take an earlier checkpoint";
      out.push_back(std::move(verdict));
      break;
    }
  }
  const std::int64_t all = std::ssize(subject.adapter->tensors);
  if (all > std::ssize(out)) {
    Verdict rest =
        adapter_verdict("adapter-values", "adapter", Outcome::Held, all - std::ssize(out));
    rest.megatron = "adapter";
    rest.evidence.bytes = true;
    out.push_back(std::move(rest));
  }
  return out;
}

std::vector<Verdict> check_adapter_coverage(const AdapterSubject& subject) {
  return on_layouts(subject, "adapter-coverage",
                    [](const Placed& placed) { return tiled(placed); });
}

std::vector<Verdict> check_adapter_bytes(const AdapterSubject& subject) {
  return on_layouts(subject, "adapter-bytes",
                    [&](const Placed& placed) { return came_back(subject, placed); });
}

namespace {

bool is_all_zero(const lora::Factor& factor) {
  for (std::int64_t row = 0; row < factor.rows; ++row) {
    for (std::int64_t column = 0; column < factor.columns; ++column) {
      if (kinds::load(factor.at(row, column), factor.dtype) != 0) {
        return false;
      }
    }
  }
  return true;
}

/// Pairs whose every product is zero: an adapter that was never trained, or never loaded.
void warn_of_no_effect(const lora::Adapter& adapter, Run& run) {
  const lora::AdapterPair* first = nullptr;
  std::size_t count = 0;
  for (const lora::AdapterPair& pair : adapter.pairs) {
    if (pair.alpha == 0 || is_all_zero(pair.b) || is_all_zero(pair.a)) {
      first = count++ == 0 ? &pair : first;
    }
  }
  if (first != nullptr) {
    run.warnings.push_back(
        fail(Code::AdapterNoEffect,
             fmt::format("{} of {} change nothing", counted(count, "pair"), adapter.pairs.size()))
            .pair(fmt::format("{} and its partner multiply to zero", io::in_quotes(first->b.key())),
                  "a delta that is not zero")
            .advise(
                "check that the adapter was trained, and saved under the names it is read with"));
  }
}

}  // namespace

std::vector<std::optional<Error>> indivisible_layouts(const AdapterSubject& subject) {
  std::vector<std::optional<Error>> out(subject.layouts.size());
  for (std::size_t i = 0; i < out.size(); ++i) {
    auto placed = place(subject, subject.layouts[i]);
    if (!placed && placed.error().code == Code::IndivisibleDim) {
      out[i] = placed.error();
    }
  }
  return out;
}

void judge_adapter(const AdapterSubject& subject, Run& run) {
  warn_of_no_effect(*subject.adapter, run);
  add_row(run, "adapter-names", "adapter keys name tensors", "keys", check_adapter_names(subject));
  add_row(run, "adapter-shapes", "factors fit their tensors", "pairs",
          check_adapter_shapes(subject));
  add_row(run, "adapter-targets", "config wraps the adapted modules", "pairs",
          check_adapter_targets(subject));
  add_row(run, "adapter-values", "factors are finite numbers", "factors",
          check_adapter_values(subject));
  const bool usable = subject.adapter->faults.empty();
  const std::array layouts = {
      std::tuple{"adapter-coverage", "no gap and no overlap in any factor",
                 &check_adapter_coverage},
      std::tuple{"adapter-bytes", "factors there and back, every byte", &check_adapter_bytes}};
  for (const auto& [claim, title, judge] : layouts) {
    if (usable) {
      add_row(run, claim, title, "factors x layouts", judge(subject));
      continue;
    }
    ClaimSummary row;
    row.claim = claim;
    row.title = title;
    row.reached = false;
    row.note = "keys or shapes are wrong";
    row.noun = "factors x layouts";
    run.claims.push_back(std::move(row));
  }
}

}  // namespace bv::claims
