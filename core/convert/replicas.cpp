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
      : plan_(plan), shards_(shards), hf_(static_cast<int>(hf)) {
    const model::Mapping& map = plan.model().mappings[mapping];
    owners_ = checkpoint::split_owners(plan, mapping).distinct;
    size_ = static_cast<std::size_t>(bytes(
        checkpoint::stored_at(shards, plan, owners_.front()).spec.dtype));  // one dtype a parameter
    const auto elements = element_count(plan.hf_shapes(map)[hf]).value();
    gathered_.resize(static_cast<std::size_t>(elements) * size_);
  }

  std::vector<ReplicaFault> run() {
    for (auto owner = owners_.rbegin(); owner != owners_.rend(); ++owner) {
      std::vector<layout::Box> back;
      for (const layout::Box& box : boxes(*owner)) {
        back.push_back(layout::inverse(box, 0));
      }
      const std::byte* const whole = shard(*owner);
      move::make_whole(back, {&whole, 1}, size_, gathered_.data());
    }
    std::vector<ReplicaFault> out;
    for (const plan::Plan::Owner& owner : owners_) {
      for (const layout::Box& box : boxes(owner)) {
        const auto at = move::first_difference(box, gathered_.data(), shard(owner), 0, size_);
        if (at) {
          const std::string& file = plan_.files()[owner.file].name;
          out.push_back({checkpoint::target_at(plan_, owner).global_name,
                         file + " (copy of one row)", file, *at});
          break;
        }
      }
    }
    return out;
  }

 private:
  [[nodiscard]] std::vector<layout::Box> boxes(const plan::Plan::Owner& owner) const {
    auto all = plan_.shard(checkpoint::target_at(plan_, owner)).boxes;
    std::erase_if(all, [this](const layout::Box& box) { return box.source != hf_; });
    return all;
  }
  [[nodiscard]] const std::byte* shard(const plan::Plan::Owner& owner) const {
    return shards_[owner.file].bytes(checkpoint::stored_at(shards_, plan_, owner)).data();
  }

  const plan::Plan& plan_;
  const checkpoint::Shards& shards_;
  int hf_;
  std::size_t size_ = 1;
  std::vector<plan::Plan::Owner> owners_;
  std::vector<std::byte> gathered_;
};

/// Calls `use(offset)` for every element of a box, in its target.
template <class Use>
void for_each_element(const layout::Box& box, std::size_t axis, std::int64_t at, const Use& use) {
  if (axis == box.axes.size()) {
    use(at);
    return;
  }
  for (std::int64_t i = 0; i < box.axes[axis].extent; ++i) {
    for_each_element(box, axis + 1, at + i * box.axes[axis].target_stride, use);
  }
}

/// What one shard drops of its padding.
struct Dropped {
  std::set<std::int64_t> rows;
  double squares = 0;
};

Dropped dropped_of(const plan::Plan& plan, const checkpoint::Shards& shards,
                   const plan::Plan::Owner& owner) {
  const io::StoredTensor& stored = checkpoint::stored_at(shards, plan, owner);
  const auto all = shards[owner.file].bytes(stored);
  const auto size = bytes(stored.spec.dtype);
  const bool number = kinds::is_computable(stored.spec.dtype);
  const std::int64_t row =
      std::max<std::int64_t>(1, element_count(stored.spec.shape).value() /
                                    std::max<std::int64_t>(1, stored.spec.shape.front()));
  Dropped out;
  for (const layout::Box& box : plan.shard(checkpoint::target_at(plan, owner)).boxes) {
    if (box.source >= 0) {
      continue;
    }
    for_each_element(box, 0, box.target_offset, [&](std::int64_t at) {
      const std::byte* element = all.data() + at * size;
      if (std::any_of(element, element + size, [](std::byte b) { return b != std::byte{0}; })) {
        const double value = number ? kinds::load(element, stored.spec.dtype) : 0;
        out.squares += value * value;
        if (value != 0 || !number) {  // -0.0 is a zero
          out.rows.insert(at / row);
        }
      }
    });
  }
  return out;
}

}  // namespace

std::vector<ReplicaFault> compare_replicas(const plan::Plan& plan, const checkpoint::Shards& shards,
                                           const io::Digests& found) {
  const auto print = [&](const plan::Plan::Owner& owner) -> const std::string& {
    return found.at(plan.files()[owner.file].name).at(checkpoint::target_at(plan, owner).name);
  };
  std::vector<ReplicaFault> out;
  for (std::size_t m = 0; m < plan.model().mappings.size(); ++m) {
    const model::Mapping& map = plan.model().mappings[m];
    for (const auto& [first, other] : checkpoint::split_owners(plan, m).replicas) {
      if (print(first) == print(other)) {
        continue;
      }
      const auto a = shards[first.file].bytes(checkpoint::stored_at(shards, plan, first));
      const auto b = shards[other.file].bytes(checkpoint::stored_at(shards, plan, other));
      const auto [at, unused] = std::mismatch(a.begin(), a.end(), b.begin(), b.end());
      static_cast<void>(unused);
      if (at != a.end() || a.size() != b.size()) {
        const auto size = bytes(checkpoint::stored_at(shards, plan, first).spec.dtype);
        out.push_back({checkpoint::target_at(plan, first).global_name,
                       plan.files()[first.file].name, plan.files()[other.file].name,
                       (at - a.begin()) / size});
      }
      shards[first.file].release(a);
      shards[other.file].release(b);
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
