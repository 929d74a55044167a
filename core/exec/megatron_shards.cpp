#include "core/exec/megatron_shards.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <set>

#include "core/base/arith.hpp"
#include "core/base/text.hpp"
#include "core/exec/move.hpp"

namespace bv::exec {
namespace fs = std::filesystem;

namespace {

Status check_shard(const io::Checkpoint& shard, const ShardFile& file, const fs::path& path,
                   const Plan& plan) {
  for (const Target& target : file.targets) {
    const model::Mapping& mapping = plan.model().mappings[target.mapping];
    const auto stored = shard.tensors().find(target.name);
    const Shape& wanted = plan.bound(mapping).target_shapes()[0];
    if (stored == shard.tensors().end()) {
      return fail(Code::MegatronParamUnfilled,
                  fmt::format("{} has no {}: {} cannot be put together (E067)", file.name,
                              target.name, mapping.hf.front()))
          .at(path.string())
          .pair(fmt::format("{} tensors", shard.tensors().size()),
                fmt::format("{} tensors, {} among them", file.targets.size(), target.name))
          .advise("the shard was changed after it was written: convert again");
    }
    if (stored->second.spec.shape != wanted) {
      return fail(Code::ShapeMismatch,
                  fmt::format("{} in {} has another shape", target.name, file.name))
          .at(path.string())
          .pair(shape_text(stored->second.spec.shape), shape_text(wanted))
          .advise("check that manifest.json belongs to these shards");
    }
  }
  if (shard.tensors().size() != file.targets.size()) {
    return fail(Code::HfTensorUnused,
                fmt::format("{} holds {} tensors, the layout has {}", file.name,
                            shard.tensors().size(), file.targets.size()))
        .at(path.string())
        .pair(fmt::format("{} tensors", shard.tensors().size()),
              fmt::format("{} tensors", file.targets.size()))
        .advise("check that manifest.json belongs to these shards");
  }
  return Done{};
}

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
  CopyCheck(const Plan& plan, const Shards& shards, std::size_t mapping, std::size_t hf)
      : plan_(plan), shards_(shards), hf_(static_cast<int>(hf)) {
    const model::Mapping& map = plan.model().mappings[mapping];
    owners_ = split_owners(plan, mapping).distinct;
    size_ = static_cast<std::size_t>(
        bytes(stored_at(shards, plan, owners_.front()).spec.dtype));  // one dtype a parameter
    const auto elements = element_count(plan.hf_shapes(map)[hf]).value();
    gathered_.resize(static_cast<std::size_t>(elements) * size_);
  }

  std::vector<ReplicaFault> run() {
    for (auto owner = owners_.rbegin(); owner != owners_.rend(); ++owner) {
      for (const layout::Box& box : boxes(*owner)) {
        copy_box(layout::inverse(box, 0), shard(*owner), gathered_.data(), 0, size_);
      }
    }
    std::vector<ReplicaFault> out;
    for (const Plan::Owner& owner : owners_) {
      for (const layout::Box& box : boxes(owner)) {
        const auto at = first_difference(box, gathered_.data(), shard(owner), 0, size_);
        if (at) {
          const std::string& file = plan_.files()[owner.file].name;
          out.push_back(
              {target_at(plan_, owner).global_name, file + " (copy of one row)", file, *at});
          break;
        }
      }
    }
    return out;
  }

 private:
  [[nodiscard]] std::vector<layout::Box> boxes(const Plan::Owner& owner) const {
    auto all = plan_.shard(target_at(plan_, owner)).boxes;
    std::erase_if(all, [this](const layout::Box& box) { return box.source != hf_; });
    return all;
  }
  [[nodiscard]] const std::byte* shard(const Plan::Owner& owner) const {
    return shards_[owner.file].bytes(stored_at(shards_, plan_, owner)).data();
  }

  const Plan& plan_;
  const Shards& shards_;
  int hf_;
  std::size_t size_ = 1;
  std::vector<Plan::Owner> owners_;
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

Dropped dropped_of(const Plan& plan, const Shards& shards, const Plan::Owner& owner) {
  const io::StoredTensor& stored = stored_at(shards, plan, owner);
  const auto all = shards[owner.file].bytes(stored);
  const auto size = bytes(stored.spec.dtype);
  const bool number = kinds::is_computable(stored.spec.dtype);
  const std::int64_t row =
      std::max<std::int64_t>(1, element_count(stored.spec.shape).value() /
                                    std::max<std::int64_t>(1, stored.spec.shape.front()));
  Dropped out;
  for (const layout::Box& box : plan.shard(target_at(plan, owner)).boxes) {
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

Result<Shards> open_shards(const fs::path& folder, const Plan& plan) {
  Shards out;
  for (const ShardFile& file : plan.files()) {
    BV_TRY(shard, io::Checkpoint::open(folder / file.name));
    BV_CHECK(check_shard(shard, file, folder / file.name, plan));
    out.push_back(std::move(shard));
  }
  return out;
}

const io::StoredTensor& stored_at(const Shards& shards, const Plan& plan,
                                  const Plan::Owner& owner) {
  const Target& target = plan.files()[owner.file].targets[owner.target];
  return shards[owner.file].tensors().find(target.name)->second;
}

const Target& target_at(const Plan& plan, const Plan::Owner& owner) {
  return plan.files()[owner.file].targets[owner.target];
}

Owners split_owners(const Plan& plan, std::size_t mapping) {
  const model::Mapping& map = plan.model().mappings[mapping];
  const layout::Rule& line = plan.bound(map).rule();
  const bool t_cuts =
      line.cut.has_value() ||
      std::any_of(line.targets[0].grid.begin(), line.targets[0].grid.end(),
                  [](const layout::GridAxis& axis) { return !axis.replica && axis.axis == "t"; });
  std::map<std::pair<std::int64_t, std::int64_t>, Plan::Owner> first;
  Owners out;
  for (const Plan::Owner& owner : plan.owners()[mapping]) {
    const Target& target = target_at(plan, owner);
    const auto [place, fresh] = first.try_emplace({t_cuts ? target.t : 0, target.expert}, owner);
    if (fresh) {
      out.distinct.push_back(owner);
    } else {
      out.replicas.emplace_back(place->second, owner);
    }
  }
  return out;
}

std::vector<ReplicaFault> compare_replicas(const Plan& plan, const Shards& shards) {
  std::vector<ReplicaFault> out;
  for (std::size_t m = 0; m < plan.model().mappings.size(); ++m) {
    const model::Mapping& map = plan.model().mappings[m];
    for (const auto& [first, other] : split_owners(plan, m).replicas) {
      const auto a = shards[first.file].bytes(stored_at(shards, plan, first));
      const auto b = shards[other.file].bytes(stored_at(shards, plan, other));
      const auto [at, unused] = std::mismatch(a.begin(), a.end(), b.begin(), b.end());
      static_cast<void>(unused);
      if (at != a.end() || a.size() != b.size()) {
        const auto size = bytes(stored_at(shards, plan, first).spec.dtype);
        out.push_back({target_at(plan, first).global_name, plan.files()[first.file].name,
                       plan.files()[other.file].name, (at - a.begin()) / size});
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

std::vector<DroppedRows> find_dropped_rows(const Plan& plan, const Shards& shards) {
  std::vector<DroppedRows> out;
  for (std::size_t m = 0; m < plan.model().mappings.size(); ++m) {
    if (!plan.model().mappings[m].rule->vocabulary) {
      continue;
    }
    DroppedRows found;
    double squares = 0;
    for (const Plan::Owner& owner : split_owners(plan, m).distinct) {
      const Dropped dropped = dropped_of(plan, shards, owner);
      found.rows += static_cast<std::int64_t>(dropped.rows.size());
      squares += dropped.squares;
      found.tensor = target_at(plan, owner).global_name;
    }
    found.norm = std::sqrt(squares);
    if (found.rows > 0) {
      out.push_back(std::move(found));
    }
  }
  return out;
}

}  // namespace bv::exec
