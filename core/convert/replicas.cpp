#include "core/convert/replicas.hpp"

#include <algorithm>
#include <cmath>
#include <set>

#include "core/base/arith.hpp"
#include "core/kinds/values.hpp"
#include "core/move/move.hpp"
#include "core/move/tensor_maker.hpp"

namespace bv::convert {
namespace {

constexpr std::int64_t kWindowBytes = std::int64_t{1} << 20;

bool has_copies(const layout::Product& product) {
  return std::any_of(product.begin(), product.end(), [](const layout::Factor& factor) {
    return factor.replica ||
           std::any_of(factor.choices.begin(), factor.choices.end(),
                       [](const layout::Choice& choice) { return has_copies(choice.product); });
  });
}

/// Does the line hold one HF element at several places of a parameter?
bool repeats_elements(const layout::Rule& line) {
  const auto& dims = line.targets[0].dims;
  return std::any_of(dims.begin(), dims.end(),
                     [](const layout::Dim& dim) { return has_copies(dim.product); });
}

/// One HF tensor of a line that repeats: gathered from the first places, then compared with all.
class CopyCheck {
 public:
  CopyCheck(const plan::Plan& plan, const checkpoint::Shards& shards, std::size_t mapping,
            std::size_t hf)
      : plan_(plan),
        shards_(shards),
        mapping_(plan.model().mappings[mapping]),
        hf_(static_cast<int>(hf)) {
    owners_ = checkpoint::split_owners(plan, mapping).distinct;
    size_ = static_cast<std::size_t>(bytes(checkpoint::stored_at(shards, plan, owners_.front())
                                               .spec->dtype));  // one dtype a parameter
    const auto elements = element_count(plan.hf_shapes(mapping_)[hf]).value();
    gathered_.resize(static_cast<std::size_t>(elements) * size_);
  }

  std::vector<ReplicaFault> run() {
    for (auto owner = owners_.rbegin(); owner != owners_.rend(); ++owner) {
      std::vector<layout::Box> back;
      for (const layout::Box& box : boxes(*owner)) {
        back.push_back(layout::inverse(box, 0));
      }
      checkpoint::TensorBytes held(shard(*owner));
      const std::byte* const whole = held.read({}, held.size()).data();
      move::make_whole(back, {&whole, 1}, size_, gathered_.data());
    }
    std::vector<ReplicaFault> out;
    for (const plan::Plan::Owner& owner : owners_) {
      checkpoint::TensorBytes held(shard(owner));
      const std::byte* const whole = held.read({}, held.size()).data();
      for (const layout::Box& box : boxes(owner)) {
        const auto at = move::first_difference(box, gathered_.data(), whole, 0, size_);
        if (at) {
          out.push_back(fault_of(owner, box, *at));
          break;
        }
      }
    }
    return out;
  }

 private:
  /// The element at `at` of `owner`, and the first copy of it that holds something else.
  [[nodiscard]] ReplicaFault fault_of(const plan::Plan::Owner& owner, const layout::Box& box,
                                      std::int64_t at) const {
    const layout::BoundRule& bound = plan_.bound(mapping_);
    const std::string part =
        box.part < 0 ? "" : bound.part_names()[static_cast<std::size_t>(box.part)];
    ReplicaFault out{checkpoint::target_at(plan_, owner).global_name,
                     plan_.files()[owner.file].name, plan_.files()[owner.file].name, at,
                     std::nullopt};
    out.repeated =
        RepeatedElement{mapping_.hf[static_cast<std::size_t>(hf_)], part, row_of(at), row_of(at)};
    const std::int64_t wanted = layout::source_of(box, at);
    const auto bytes_at = [this](const plan::Plan::Owner& one, std::int64_t element) {
      checkpoint::TensorBytes held(shard(one));
      const auto size = static_cast<std::int64_t>(size_);
      const auto found = held.read(ByteOffset(element * size), ByteOffset((element + 1) * size));
      return std::vector<std::byte>(found.begin(), found.end());
    };
    const auto here = bytes_at(owner, at);
    for (const plan::Plan::Owner& other : owners_) {
      for (const layout::Box& copy : boxes(other)) {
        for (std::int64_t i = 0; i < copy.elements(); ++i) {
          const layout::BoxPlace place = layout::place_of(copy, i);
          if (place.source == wanted && bytes_at(other, place.target) != here) {
            out.first_owner = plan_.files()[other.file].name;
            out.repeated->row = row_of(place.target);
            return out;
          }
        }
      }
    }
    return out;
  }
  [[nodiscard]] std::int64_t row_of(std::int64_t element) const {
    const Shape& shape = plan_.bound(mapping_).target_shapes()[0];
    return element / std::max<std::int64_t>(1, element_count(shape).value() / shape.front());
  }
  [[nodiscard]] std::vector<layout::Box> boxes(const plan::Plan::Owner& owner) const {
    auto all = plan_.shard(checkpoint::target_at(plan_, owner)).boxes;
    std::erase_if(all, [this](const layout::Box& box) { return box.source != hf_; });
    return all;
  }
  [[nodiscard]] checkpoint::SourceTensor shard(const plan::Plan::Owner& owner) const {
    return checkpoint::stored_at(shards_, plan_, owner);
  }

  const plan::Plan& plan_;
  const checkpoint::Shards& shards_;
  const model::Mapping& mapping_;
  int hf_;
  std::size_t size_ = 1;
  std::vector<plan::Plan::Owner> owners_;
  std::vector<std::byte> gathered_;
};

/// What one shard drops of its padding.
struct Dropped {
  std::set<std::int64_t> rows;
  double squares = 0;
};

/// Adds what elements from `begin` on, `size` bytes each, are that is not zero.
void add_dropped(std::span<const std::byte> elements, std::int64_t begin, DType dtype,
                 std::int64_t row, Dropped& out) {
  const auto size = static_cast<std::size_t>(bytes(dtype));
  const bool number = kinds::is_computable(dtype);
  for (std::size_t at = 0; at < elements.size(); at += size) {
    const auto element = elements.subspan(at, size);
    if (std::all_of(element.begin(), element.end(),
                    [](std::byte b) { return b == std::byte{0}; })) {
      continue;
    }
    const double value = number ? kinds::load(element.data(), dtype) : 0;
    out.squares += value * value;
    if (value != 0 || !number) {  // -0.0 is a zero
      out.rows.insert((begin + static_cast<std::int64_t>(at / size)) / row);
    }
  }
}

Dropped dropped_of(const plan::Plan& plan, const checkpoint::Shards& shards,
                   const plan::Plan::Owner& owner) {
  const checkpoint::SourceTensor stored = checkpoint::stored_at(shards, plan, owner);
  checkpoint::TensorBytes all(stored);
  const DType dtype = stored.spec->dtype;
  const auto size = bytes(dtype);
  const std::int64_t step = std::max<std::int64_t>(1, kWindowBytes / size);
  const std::int64_t row =
      std::max<std::int64_t>(1, element_count(stored.spec->shape).value() /
                                    std::max<std::int64_t>(1, stored.spec->shape.front()));
  Dropped out;
  for (const layout::Box& box : plan.shard(checkpoint::target_at(plan, owner)).boxes) {
    std::vector<layout::Run> runs;
    if (box.source < 0 && box.elements() > 0) {
      layout::target_runs(box, runs);
    }
    for (const layout::Run& run : runs) {
      for (std::int64_t begin = run.begin; begin < run.end; begin += step) {
        const std::int64_t end = std::min(run.end, begin + step);
        add_dropped(all.read(ByteOffset(begin * size), ByteOffset(end * size)), begin, dtype, row,
                    out);
      }
    }
  }
  return out;
}

/// The first byte in which two copies differ.
std::optional<std::uint64_t> first_difference(const checkpoint::SourceTensor& first,
                                              const checkpoint::SourceTensor& other) {
  checkpoint::TensorBytes a(first);
  checkpoint::TensorBytes b(other);
  const ByteOffset size = std::min(a.size(), b.size());
  constexpr ByteOffset kWindow(kWindowBytes);
  for (ByteOffset begin; begin < size; begin += kWindow) {
    const ByteOffset end = std::min(size, begin + kWindow);
    const auto left = a.read(begin, end);
    const auto right = b.read(begin, end);
    const auto at = std::mismatch(left.begin(), left.end(), right.begin()).first;
    a.release();
    b.release();
    if (at != left.end()) {
      return begin.size() + static_cast<std::uint64_t>(at - left.begin());
    }
  }
  return a.size() == b.size() ? std::nullopt : std::optional<std::uint64_t>(size.size());
}

}  // namespace

std::vector<ReplicaFault> compare_replicas(const plan::Plan& plan, const checkpoint::Shards& shards,
                                           const io::Digests& found) {
  const auto print = [&](const plan::Plan::Owner& owner) {
    const auto file = found.find(plan.files()[owner.file].name);
    return file == found.end() ? std::string()
                               : file->second.at(checkpoint::target_at(plan, owner).name);
  };
  std::vector<ReplicaFault> out;
  for (std::size_t m = 0; m < plan.model().mappings.size(); ++m) {
    const model::Mapping& map = plan.model().mappings[m];
    for (const auto& [first, other] : checkpoint::split_owners(plan, m).replicas) {
      if (const std::string held = print(first); !held.empty() && held == print(other)) {
        continue;
      }
      const checkpoint::SourceTensor stored = checkpoint::stored_at(shards, plan, first);
      if (const auto at = first_difference(stored, checkpoint::stored_at(shards, plan, other))) {
        out.push_back({checkpoint::target_at(plan, first).global_name,
                       plan.files()[first.file].name, plan.files()[other.file].name,
                       static_cast<std::int64_t>(*at) / bytes(stored.spec->dtype), std::nullopt});
      }
    }
    for (std::size_t hf = 0; repeats_elements(plan.bound(map).rule()) && hf < map.hf.size(); ++hf) {
      for (ReplicaFault& fault : CopyCheck(plan, shards, m, hf).run()) {
        out.push_back(std::move(fault));
      }
    }
  }
  return out;
}

std::vector<DroppedRows> find_dropped_rows(const plan::Plan& plan,
                                           const checkpoint::Shards& shards) {
  std::vector<DroppedRows> out;
  for (std::size_t m = 0; m < plan.model().mappings.size(); ++m) {
    if (!plan.model().mappings[m].rule->vocabulary) {
      continue;
    }
    DroppedRows found;
    double squares = 0;
    for (const plan::Plan::Owner& owner : checkpoint::split_owners(plan, m).distinct) {
      const Dropped dropped = dropped_of(plan, shards, owner);
      found.rows += static_cast<std::int64_t>(dropped.rows.size());
      squares += dropped.squares;
      found.tensor = checkpoint::target_at(plan, owner).global_name;
    }
    found.norm = std::sqrt(squares);
    if (found.rows > 0) {
      out.push_back(std::move(found));
    }
  }
  return out;
}

}  // namespace bv::convert
