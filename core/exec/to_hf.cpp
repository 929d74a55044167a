#include <fmt/format.h>

#include <algorithm>
#include <nlohmann/json.hpp>
#include <set>

#include "core/base/arith.hpp"
#include "core/exec/convert.hpp"
#include "core/exec/manifest.hpp"
#include "core/exec/move.hpp"
#include "core/exec/output_folder.hpp"
#include "core/io/writer.hpp"
#include "core/kinds/value_rule.hpp"

namespace bv::exec {
namespace fs = std::filesystem;

namespace {

/// The shard files of a Megatron folder, opened, in the plan's order.
using Shards = std::vector<io::Checkpoint>;

Result<Shards> open_shards(const fs::path& folder, const Plan& plan) {
  Shards out;
  for (const ShardFile& file : plan.files()) {
    BV_TRY(shard, io::Checkpoint::open(folder / file.name));
    for (const Target& target : file.targets) {
      const auto stored = shard.tensors().find(target.name);
      const Shape& wanted = plan.bound(plan.model().mappings[target.mapping]).target_shapes()[0];
      if (stored == shard.tensors().end()) {
        return fail(Code::MegatronParamUnfilled,
                    fmt::format("{} has no {}", file.name, target.name))
            .at((folder / file.name).string())
            .advise("the shard was changed after it was written: convert again");
      }
      if (stored->second.spec.shape != wanted) {
        return fail(Code::ShapeMismatch,
                    fmt::format("{} in {} has another shape", target.name, file.name))
            .pair(fmt::format("[{}]", fmt::join(stored->second.spec.shape, ", ")),
                  fmt::format("[{}]", fmt::join(wanted, ", ")))
            .advise("check that manifest.json belongs to these shards");
      }
    }
    if (shard.tensors().size() != file.targets.size()) {
      return fail(Code::HfTensorUnused,
                  fmt::format("{} holds {} tensors, the layout has {}", file.name,
                              shard.tensors().size(), file.targets.size()))
          .advise("check that manifest.json belongs to these shards");
    }
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

/// One owner for each distinct content: replicas (equal t where it cuts, equal expert) keep the
/// first.
struct Owners {
  std::vector<Plan::Owner> distinct;
  std::vector<std::pair<Plan::Owner, Plan::Owner>> replicas;  // first, other
};

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

/// Boxes that make one HF tensor out of its distinct owners.
std::vector<layout::Box> boxes_back(const Plan& plan, const std::vector<Plan::Owner>& distinct,
                                    std::size_t hf) {
  std::vector<layout::Box> out;
  for (std::size_t i = 0; i < distinct.size(); ++i) {
    for (const layout::Box& box : plan.shard(target_at(plan, distinct[i])).boxes) {
      if (box.source == static_cast<int>(hf)) {
        out.push_back(layout::inverse(box, static_cast<int>(i)));
      }
    }
  }
  return out;
}

Status compare_replicas(const Plan& plan, const Shards& shards, ConvertReport& report) {
  for (std::size_t m = 0; m < plan.model().mappings.size(); ++m) {
    for (const auto& [first, other] : split_owners(plan, m).replicas) {
      const auto a = shards[first.file].bytes(stored_at(shards, plan, first));
      const auto b = shards[other.file].bytes(stored_at(shards, plan, other));
      const auto [at, unused] = std::mismatch(a.begin(), a.end(), b.begin(), b.end());
      static_cast<void>(unused);
      if (at != a.end() || a.size() != b.size()) {
        const auto size = bytes(stored_at(shards, plan, first).spec.dtype);
        report.replicas.push_back({target_at(plan, first).global_name,
                                   plan.files()[first.file].name, plan.files()[other.file].name,
                                   (at - a.begin()) / size});
      }
      shards[first.file].release(a);
      shards[other.file].release(b);
    }
  }
  return Done{};
}

Result<std::vector<OutputFile>> hf_outputs(const MegatronFolder& source, const Plan& plan,
                                           const Shards& shards) {
  std::map<std::string, OutputFile> files;
  for (const auto& [name, metadata] : source.hf_metadata) {
    files[name].name = name;
    files[name].metadata = metadata;
  }
  std::set<std::string> made;
  const auto add = [&](const std::string& hf, std::size_t mapping, std::size_t position) {
    const model::Mapping& map = plan.model().mappings[mapping];
    OutputTensor tensor;
    tensor.spec = source.hf_headers.find(hf)->second;
    const auto distinct = split_owners(plan, mapping).distinct;
    for (const Plan::Owner& owner : distinct) {
      tensor.sources.push_back({&shards[owner.file], &stored_at(shards, plan, owner)});
    }
    tensor.boxes = [&plan, distinct, position] { return boxes_back(plan, distinct, position); };
    tensor.add = -kinds::added_on_import(map.rule->value);
    files[source.hf_file_of.at(hf)].tensors.push_back(std::move(tensor));
    made.insert(hf);
  };
  std::map<std::string, std::pair<std::size_t, std::size_t>> place_of;
  for (std::size_t m = 0; m < plan.model().mappings.size(); ++m) {
    for (std::size_t i = 0; i < plan.model().mappings[m].hf.size(); ++i) {
      place_of[plan.model().mappings[m].hf[i]] = {m, i};
      add(plan.model().mappings[m].hf[i], m, i);
    }
  }
  for (const auto& [copy, original] :
       plan.model().must_equal) {  // stored twice in the source: given back twice
    const auto place = place_of.find(original);
    if (source.hf_headers.contains(copy) && place != place_of.end()) {
      add(copy, place->second.first, place->second.second);
    }
  }
  for (const auto& [hf, spec] : source.hf_headers) {
    if (!made.contains(hf)) {
      return fail(Code::HfTensorMissing,
                  fmt::format("{} of the source cannot be made from the Megatron shards", hf))
          .pair("no rule gives it", "one rule")
          .advise("it was a buffer or copy of the source; remove it there and convert again");
    }
  }
  std::vector<OutputFile> out;
  for (auto& [name, file] : files) {
    if (!file.tensors.empty()) {
      out.push_back(std::move(file));
    }
  }
  return out;
}

/// The index as it was, without the tensors that were dropped.
Result<std::string> index_text(const std::string& original, const MegatronFolder& source) {
  try {
    auto json = nlohmann::ordered_json::parse(original);
    std::int64_t bytes_left = 0;
    bool changed = false;
    nlohmann::ordered_json kept = nlohmann::ordered_json::object();
    for (const auto& [tensor, file] : json.at("weight_map").items()) {
      if (const auto spec = source.hf_headers.find(tensor); spec != source.hf_headers.end()) {
        kept[tensor] = file;
        bytes_left += element_count(spec->second.shape).value_or(0) * bits(spec->second.dtype) / 8;
      } else {
        changed = true;
      }
    }
    if (!changed) {
      return original;
    }
    json["weight_map"] = std::move(kept);
    json["metadata"]["total_size"] = bytes_left;
    return json.dump(2) + "\n";
  } catch (const std::exception& problem) {
    return fail(Code::IndexDisagrees,
                fmt::format("the carried index cannot be read: {}", problem.what()))
        .advise("convert the HF directory again");
  }
}

Status carry_back(const MegatronFolder& source, const fs::path& to) {
  for (const std::string& name : source.carried) {
    BV_TRY(text, io::read_file(source.folder / kCarriedFolder / name, std::uint64_t{1} << 30));
    if (name.ends_with(".safetensors.index.json")) {
      BV_TRY(index, index_text(text, source));
      BV_CHECK(io::write_file(to / name, index));
    } else {
      BV_CHECK(io::write_file(to / name, text));
    }
  }
  return Done{};
}

}  // namespace

Result<MegatronFolder> open_megatron(const fs::path& folder,
                                     const std::vector<model::FamilyPtr>& families) {
  BV_TRY(text, io::read_file(folder / kManifestName, std::uint64_t{1} << 30));
  BV_TRY(out, parse_manifest(text, (folder / kManifestName).string()));
  out.folder = folder;
  const auto family =
      std::find_if(families.begin(), families.end(),
                   [&](const model::FamilyPtr& one) { return model::name(*one) == out.family; });
  if (family == families.end()) {
    return fail(Code::ArchitectureUnknown,
                fmt::format("{} names family {}, which this build does not have",
                            (folder / kManifestName).string(), out.family))
        .advise("bridge-verify models list shows the families");
  }
  BV_TRY(config_text,
         io::read_file(folder / kCarriedFolder / "config.json", std::uint64_t{100} << 20));
  const auto config = nlohmann::json::parse(config_text, nullptr, false);
  if (config.is_discarded()) {
    return fail(Code::ConfigField,
                fmt::format("{} is not JSON", (folder / kCarriedFolder / "config.json").string()))
        .advise("restore the carried config.json");
  }
  out.config_text = std::move(config_text);
  BV_TRY(model, model::resolve(*family, config, out.hf_headers, out.resolve));
  if (!model.faults.empty()) {
    const model::NameFault& fault = model.faults.front();
    return fail(fault.code, fault.message)
        .at((folder / kManifestName).string())
        .pair(fault.found, fault.wanted)
        .advise(
            "manifest.json and config.json do not fit each other: convert the HF directory again");
  }
  out.model = std::move(model);
  return out;
}

Result<ConvertReport> to_hf(const MegatronFolder& source, const kinds::Catalogue& kinds,
                            const fs::path& out, const ConvertOptions& options) {
  if (is_inside(out, source.folder)) {
    return fail(Code::Conflict,
                fmt::format("--out {} is inside the Megatron directory", out.string()))
        .pair(out.string(), "a folder outside " + source.folder.string())
        .advise("choose another --out");
  }
  BV_TRY(plan, Plan::make(source.model, kinds, source.layout));
  BV_TRY(shards, open_shards(source.folder, plan));
  ConvertReport report;
  BV_CHECK(compare_replicas(plan, shards, report));
  if (!report.replicas.empty()) {
    return report;
  }
  BV_TRY(outputs, hf_outputs(source, plan, shards));
  BV_TRY(folder, OutputFolder::create(out, options.overwrite, options.resume));
  BV_CHECK(folder.keep_only(names_of(outputs)));
  BV_TRY(digests,
         write_files(folder.partial(), outputs, {options.jobs, options.progress, options.resume}));
  if (options.verify) {
    BV_CHECK(verify_files(folder.partial(), digests, options.jobs));
  }
  BV_CHECK(carry_back(source, folder.partial()));
  BV_CHECK(folder.finish());
  report.digests = std::move(digests);
  report.tensors = static_cast<std::int64_t>(source.hf_headers.size());
  return report;
}

}  // namespace bv::exec
