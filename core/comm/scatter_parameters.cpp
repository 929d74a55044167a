#include <algorithm>

#include "core/base/arith.hpp"
#include "core/comm/roads.hpp"
#include "core/move/tensor_maker.hpp"

namespace bv::comm {
namespace {

/// The files of this rank: one for each virtual stage.
std::vector<const plan::ShardFile*> files_of(const plan::Plan& plan,
                                             const parallel::Coordinates& at) {
  std::vector<const plan::ShardFile*> out;
  for (const plan::ShardFile& file : plan.files()) {
    if (file.key.pp == at.pp && file.key.tp == at.tp && file.key.ep == at.ep &&
        file.key.etp == at.etp) {
      out.push_back(&file);
    }
  }
  return out;
}

class Scatter {
 public:
  Scatter(const plan::Plan& plan, const Headers& headers, const plan::DtypePolicy& policy,
          const ReadHf& read)
      : plan_(plan), headers_(headers), policy_(policy), read_(read) {}

  Result<TypedBytes> parameter(const Grid& grid, const plan::Target& target) {
    const model::Mapping& mapping = plan_.model().mappings[target.mapping];
    Group group = mapping.rule->expert ? grid.etp : grid.tp;
    std::vector<Bytes> parts;
    if (group.place() == 0) {
      BV_TRY(cut, cut_for(mapping, target, group.size()));
      parts = std::move(cut);
    }
    BV_TRY(mine, group.scatter(0, parts, target.global_name));
    return TypedBytes{dtype_of(mapping), plan_.bound(mapping).target_shapes()[0], std::move(mine)};
  }

 private:
  [[nodiscard]] DType dtype_of(const model::Mapping& mapping) const {
    return plan::target_dtype(*mapping.rule, plan::dtypes_of(headers_, mapping), policy_);
  }

  /// The shard of each place of the group.
  Result<std::vector<Bytes>> cut_for(const model::Mapping& mapping, const plan::Target& target,
                                     int places) {
    std::vector<move::SourceBytes> sources;
    for (const std::string& hf : mapping.hf) {
      BV_TRY(bytes, read_(hf));
      sources.push_back({bytes.data(), headers_.find(hf)->second.dtype});
    }
    std::vector<Bytes> out;
    for (int place = 0; place < places; ++place) {
      plan::Target of_place = target;
      of_place.t = place;
      layout::Shard shard = plan_.shard(of_place);
      const std::int64_t elements = element_count(shard.shape).value();
      const DType dtype = dtype_of(mapping);
      move::TensorMaker maker({dtype, elements, std::move(shard.boxes), sources,
                               mapping.rule->value.added_on_import()});
      Bytes made(static_cast<std::size_t>(elements * bytes(dtype)));
      BV_CHECK(maker.make(ElementOffset(0), ElementOffset(elements), made.data()));
      out.push_back(std::move(made));
    }
    return out;
  }

  const plan::Plan& plan_;
  const Headers& headers_;
  const plan::DtypePolicy& policy_;
  const ReadHf& read_;
};

}  // namespace

Status scatter_parameters(Link& link, const plan::Plan& plan, const Headers& headers,
                          const plan::DtypePolicy& policy, const ReadHf& read,
                          const TakeParameter& take) {
  BV_TRY(grid, grid_of(link, plan.layout()));
  Scatter scatter(plan, headers, policy, read);
  for (const plan::ShardFile* file : files_of(plan, grid.at)) {
    for (const plan::Target& target : file->targets) {
      BV_TRY(made, scatter.parameter(grid, target));
      BV_CHECK(take(*file, target, std::move(made)));
    }
  }
  return Done{};
}

}  // namespace bv::comm
