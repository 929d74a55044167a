#include "core/checkpoint/megatron_shards.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <set>

#include "core/base/arith.hpp"
#include "core/base/text.hpp"
#include "core/io/checkpoint.hpp"
#include "core/io/fault_text.hpp"

namespace bv::checkpoint {
namespace fs = std::filesystem;

namespace {

/// Nothing is cast on the way back but what was cast on the way there.
Status check_dtype(const MegatronFolder& folder, const model::Mapping& mapping,
                   const TensorSpec& stored, const std::string& file) {
  const DType wanted =
      plan::target_dtype(*mapping.rule, plan::dtypes_of(folder.hf_headers, mapping), folder.dtype);
  if (stored.dtype == wanted) {
    return Done{};
  }
  return fail(Code::DtypeChanged,
              fmt::format("{} in {} is {}; by the manifest it was written as {}",
                          io::in_quotes(stored.name), file, name(stored.dtype), name(wanted)))
      .at((folder.folder / file).string())
      .pair(std::string(name(stored.dtype)), std::string(name(wanted)))
      .advise(
          "write the shards in the element type that they had, or convert the HF directory again");
}

}  // namespace

Status check_shard(const io::TensorStore& shard, const plan::ShardFile& file,
                   const MegatronFolder& folder, const plan::Plan& plan) {
  const fs::path path = folder.folder / file.name;
  const std::size_t held = shard.headers().size();
  for (const plan::Target& target : file.targets) {
    const model::Mapping& mapping = plan.model().mappings[target.mapping];
    const TensorSpec* const stored = shard.find(target.name);
    const Shape& wanted = plan.bound(mapping).target_shapes()[0];
    if (stored == nullptr) {
      return fail(Code::MegatronParamUnfilled,
                  fmt::format("{} has no {}: {} cannot be put together", file.name, target.name,
                              mapping.hf.front()))
          .at(path.string())
          .pair(counted(held, "tensor"),
                fmt::format("{} tensors, {} among them", file.targets.size(), target.name))
          .advise("the shard was changed after it was written: convert again");
    }
    if (stored->shape != wanted) {
      return fail(Code::ShapeMismatch,
                  fmt::format("{} in {} has another shape", target.name, file.name))
          .at(path.string())
          .pair(shape_text(stored->shape), shape_text(wanted))
          .advise("check that manifest.json belongs to these shards");
    }
    BV_CHECK(check_dtype(folder, mapping, *stored, file.name));
  }
  if (const auto other = other_names(shard, file); !other.beyond.empty()) {
    return fail(Code::ShardContents,
                fmt::format("{} holds {}, which its layout does not have", file.name,
                            join(io::first_lines(other.beyond, 4), ", ")))
        .at(path.string())
        .pair(counted(held, "tensor"), counted(file.targets.size(), "tensor"))
        .advise("check that manifest.json belongs to these shards");
  }
  return Done{};
}

OtherNames other_names(const io::TensorStore& shard, const plan::ShardFile& file) {
  OtherNames out;
  std::set<std::string_view> wanted;
  for (const plan::Target& target : file.targets) {
    wanted.insert(target.name);
    if (shard.find(target.name) == nullptr) {
      out.absent.push_back(&target);
    }
  }
  shard.for_each([&](const TensorSpec& spec) {
    if (!wanted.contains(spec.name)) {
      out.beyond.push_back(io::printable(spec.name));
    }
  });
  return out;
}

Result<Shards> open_shards(const MegatronFolder& folder, const plan::Plan& plan, bool strict) {
  BV_CHECK(check_shards_there(folder.folder, folder.digests));
  Shards out;
  for (const plan::ShardFile& file : plan.files()) {
    BV_TRY(shard, io::Checkpoint::open(folder.folder / file.name, strict));
    out.push_back(std::make_unique<const io::Checkpoint>(std::move(shard)));
  }
  return out;
}

SourceTensor stored_at(const Shards& shards, const plan::Plan& plan,
                       const plan::Plan::Owner& owner) {
  const io::TensorStore& shard = *shards[owner.file];
  return {&shard, shard.find(target_at(plan, owner).name)};
}

const plan::Target& target_at(const plan::Plan& plan, const plan::Plan::Owner& owner) {
  return plan.files()[owner.file].targets[owner.target];
}

Owners split_owners(const plan::Plan& plan, std::size_t mapping) {
  const model::Mapping& map = plan.model().mappings[mapping];
  const layout::Rule& line = plan.bound(map).rule();
  const bool t_cuts =
      line.cut.has_value() ||
      std::any_of(line.targets[0].grid.begin(), line.targets[0].grid.end(),
                  [](const layout::GridAxis& axis) { return !axis.replica && axis.axis == "t"; });
  std::map<std::pair<std::int64_t, std::int64_t>, plan::Plan::Owner> first;
  Owners out;
  for (const plan::Plan::Owner& owner : plan.owners()[mapping]) {
    const plan::Target& target = target_at(plan, owner);
    const auto [place, fresh] = first.try_emplace({t_cuts ? target.t : 0, target.expert}, owner);
    if (fresh) {
      out.distinct.push_back(owner);
    } else {
      out.replicas.emplace_back(place->second, owner);
    }
  }
  return out;
}

}  // namespace bv::checkpoint
