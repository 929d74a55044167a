// What is compared with what: names of two HF checkpoints, or the parameters of a plan with the
// tensors of its shards.

#include <fmt/format.h>

#include <algorithm>
#include <set>

#include "core/base/arith.hpp"
#include "core/base/text.hpp"
#include "core/compare/diff.hpp"
#include "core/compare/rule_faults.hpp"

namespace bv::compare {
namespace {

View view_of(const io::Checkpoint& checkpoint, const io::StoredTensor& tensor) {
  View view;
  view.spec = tensor.spec;
  view.sources = {{&checkpoint, &tensor}};
  const std::int64_t count = element_count(tensor.spec.shape).value_or(0);
  layout::Box box;
  const bool small = bits(tensor.spec.dtype) % 8 != 0;
  const std::int64_t elements = small ? count * bits(tensor.spec.dtype) / 8 : count;
  if (elements > 0) {
    box.axes = {{elements, 1, 1}};
    layout::normalise(box);
    view.boxes = {box};
  }
  return view;
}

/// What makes two targets hold the same bytes: a copy of an earlier one adds nothing to the row
/// table.
using SameBytes = std::tuple<std::uint32_t, std::int64_t, std::int64_t>;

SameBytes same_bytes(const plan::Plan& plan, const plan::Target& target) {
  const model::Mapping& mapping = plan.model().mappings[target.mapping];
  const layout::Rule& line = plan.bound(mapping).rule();
  const auto& grid = line.targets[0].grid;
  const bool cut = line.cut.has_value() ||
                   std::any_of(grid.begin(), grid.end(), [](const layout::GridAxis& axis) {
                     return axis.axis == "t" && !axis.replica;
                   });
  return {target.mapping, cut ? target.t : 0, target.expert};
}

}  // namespace

Comparison compare_hf(const io::Checkpoint& a, const io::Checkpoint& b) {
  Comparison out;
  for (const auto& [name, stored] : a.tensors()) {
    Subject subject;
    subject.tensor = name;
    subject.global = name;
    subject.hf = {name};
    subject.spec = stored.spec;
    subject.vocabulary = false;
    subject.wanted = [&a, tensor = &stored] { return view_of(a, *tensor); };
    if (const auto there = b.tensors().find(name); there != b.tensors().end()) {
      subject.found = checkpoint::SourceTensor{&b, &there->second};
    }
    out.subjects.push_back(std::move(subject));
  }
  for (const auto& [name, stored] : b.tensors()) {
    if (!a.tensors().contains(name)) {
      out.strays.push_back({name, "", {&b, &stored}});
    }
  }
  return out;
}

std::optional<std::int64_t> padded_shard_rows(const model::Model& model,
                                              const parallel::Layout& layout,
                                              const Shards& shards) {
  const std::int64_t rows = model.geometry.vocabulary();
  if (rows % layout.tp == 0) {
    return std::nullopt;
  }
  for (const model::Mapping& mapping : model.mappings) {
    if (!mapping.rule->vocabulary) {
      continue;
    }
    const std::string name = model.megatron_name(mapping);
    for (const auto& [place, shard] : shards) {
      const auto found = shard.tensors().find(name);
      const bool stored = found != shard.tensors().end() && !found->second.spec.shape.empty();
      const auto padded =
          stored ? checked_mul(found->second.spec.shape[0], layout.tp) : std::nullopt;
      if (padded && *padded >= rows) {
        return found->second.spec.shape[0];
      }
    }
  }
  return std::nullopt;
}

Comparison compare_megatron(const checkpoint::HfModel& a, const plan::Plan& plan, const Shards& b,
                            const plan::DtypePolicy& dtype) {
  Comparison out;
  std::set<SameBytes> seen;
  for (const plan::ShardFile& file : plan.files()) {
    const std::string place = parallel::shard_name(file.key, plan.layout());
    const auto shard = b.find(place);
    std::set<std::string_view> wanted;
    for (const plan::Target& target : file.targets) {
      const model::Mapping& mapping = plan.model().mappings[target.mapping];
      std::vector<checkpoint::SourceTensor> sources;
      std::vector<DType> dtypes;
      for (const std::string& hf : mapping.hf) {
        const io::StoredTensor& stored = a.checkpoint->tensors().find(hf)->second;
        sources.push_back({&*a.checkpoint, &stored});
        dtypes.push_back(stored.spec.dtype);
      }
      Subject subject;
      subject.tensor = target.name;
      subject.global = target.global_name;
      subject.place = place;
      subject.hf = mapping.hf;
      subject.vocabulary = mapping.rule->vocabulary;
      subject.repeats = !seen.insert(same_bytes(plan, target)).second;
      const DType stored_as = plan::target_dtype(*mapping.rule, dtypes, dtype);
      subject.spec = {target.name, stored_as, plan.bound(mapping).target_shapes()[0]};
      subject.wanted = [&plan, &target, sources, stored_as] {
        return wanted_view(plan, target, sources, stored_as);
      };
      subject.candidates = [&plan, &target, sources, stored_as](const TensorSpec& found) {
        return rule_faults(plan, target, sources, stored_as, found);
      };
      wanted.insert(target.name);
      if (shard != b.end()) {
        const auto& tensors = shard->second.tensors();
        if (const auto there = tensors.find(target.name); there != tensors.end()) {
          subject.found = checkpoint::SourceTensor{&shard->second, &there->second};
        }
      }
      out.subjects.push_back(std::move(subject));
    }
    if (shard == b.end()) {
      continue;
    }
    for (const auto& [name, stored] : shard->second.tensors()) {
      if (!wanted.contains(name)) {
        out.strays.push_back({name, place, {&shard->second, &stored}});
      }
    }
  }
  return out;
}

Result<parallel::Layout> layout_of_shards(const std::vector<std::string>& names,
                                          const parallel::Layout& flags) {
  parallel::Layout out = flags;
  out.tp = out.pp = out.ep = out.etp = out.vpp = 1;
  for (const std::string& name : names) {
    const auto key = parallel::shard_from_name(name);
    if (!key) {
      return fail(Code::BadValue,
                  fmt::format("{} is not the name of a Megatron shard", escaped(name)))
          .pair(escaped(name), "pp0_tp1_ep0_etp0.safetensors")
          .advise("name each file after its ranks");
    }
    out.tp = std::max(out.tp, key->tp + 1);
    out.pp = std::max(out.pp, key->pp + 1);
    out.ep = std::max(out.ep, key->ep + 1);
    out.etp = std::max(out.etp, key->etp + 1);
    out.vpp = std::max(out.vpp, key->vp + 1);
  }
  if (!flags.pipeline_layout.empty()) {
    out.vpp = flags.vpp;  // the string decides the virtual stages
  }
  BV_CHECK(parallel::check_sizes(out));
  std::set<std::string> wanted;
  for (const parallel::ShardKey& key : parallel::shard_keys(out)) {
    wanted.insert(parallel::shard_name(key, out));
  }
  for (const std::string& name : names) {
    wanted.erase(name);
  }
  if (!wanted.empty()) {
    return fail(Code::BadValue,
                fmt::format("the shard names state {}, but {} of its files {} missing",
                            parallel::layout_id(out), wanted.size(),
                            wanted.size() == 1 ? "is" : "are"))
        .fact("missing: " + *wanted.begin() + ".safetensors")
        .pair(fmt::format("{} files", names.size()),
              fmt::format("{} files", names.size() + wanted.size()))
        .advise("copy the missing shards beside the others");
  }
  return out;
}

}  // namespace bv::compare
