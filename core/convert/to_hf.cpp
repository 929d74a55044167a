#include <fmt/format.h>

#include <algorithm>
#include <nlohmann/json.hpp>
#include <set>

#include "core/base/arith.hpp"
#include "core/base/text.hpp"
#include "core/checkpoint/manifest.hpp"
#include "core/checkpoint/megatron_shards.hpp"
#include "core/checkpoint/open_model.hpp"
#include "core/convert/convert.hpp"
#include "core/io/output_folder.hpp"
#include "core/io/writer.hpp"
#include "core/kinds/value_rule.hpp"

namespace bv::convert {
namespace fs = std::filesystem;

namespace {

/// Every shard tensor has the dtype that convert gave it: nothing is cast but what was cast then.
Status check_shard_dtypes(const checkpoint::MegatronFolder& source, const plan::Plan& plan,
                          const checkpoint::Shards& shards) {
  for (std::size_t f = 0; f < plan.files().size(); ++f) {
    for (const plan::Target& target : plan.files()[f].targets) {
      const model::Mapping& mapping = plan.model().mappings[target.mapping];
      const DType wanted = plan::target_dtype(
          *mapping.rule, plan::dtypes_of(source.hf_headers, mapping), source.dtype);
      const DType found = shards[f].tensors().find(target.name)->second.spec.dtype;
      if (found != wanted) {
        return fail(Code::DtypeChanged,
                    fmt::format("{} in {} is {}, the manifest says {}", readable(target.name),
                                plan.files()[f].name, name(found), name(wanted)))
            .at((source.folder / plan.files()[f].name).string())
            .pair(std::string(name(found)), std::string(name(wanted)))
            .advise("write the shards in the dtype that they had, or convert the HF model again");
      }
    }
  }
  return Done{};
}

/// Boxes that make one HF tensor out of its distinct owners.
std::vector<layout::Box> boxes_back(const plan::Plan& plan,
                                    const std::vector<plan::Plan::Owner>& distinct,
                                    std::size_t hf) {
  std::vector<layout::Box> out;
  for (std::size_t i = 0; i < distinct.size(); ++i) {
    for (const layout::Box& box : plan.shard(checkpoint::target_at(plan, distinct[i])).boxes) {
      if (box.source == static_cast<int>(hf)) {
        out.push_back(layout::inverse(box, static_cast<int>(i)));
      }
    }
  }
  return out;
}

Result<std::vector<OutputFile>> hf_outputs(const checkpoint::MegatronFolder& source,
                                           const plan::Plan& plan,
                                           const checkpoint::Shards& shards) {
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
    const auto distinct = checkpoint::split_owners(plan, mapping).distinct;
    for (const plan::Plan::Owner& owner : distinct) {
      tensor.sources.push_back({&shards[owner.file], &checkpoint::stored_at(shards, plan, owner)});
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
Result<std::string> index_text(const std::string& original,
                               const checkpoint::MegatronFolder& source) {
  if (checkpoint::json_depth(original) > checkpoint::kJsonDepthMax) {
    return fail(Code::IndexInvalid, fmt::format("the carried index nests {} brackets",
                                                checkpoint::json_depth(original)))
        .pair(std::to_string(checkpoint::json_depth(original)),
              fmt::format("at most {}", checkpoint::kJsonDepthMax))
        .advise("convert the HF directory again");
  }
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

Status carry_back(const checkpoint::MegatronFolder& source, const fs::path& to) {
  for (const std::string& name : source.carried) {
    BV_TRY(text, io::read_file(source.folder / checkpoint::kCarriedFolder / name,
                               std::uint64_t{1} << 30));
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

Result<ConvertReport> to_hf(const checkpoint::MegatronFolder& source, const kinds::Catalogue& kinds,
                            const fs::path& out, const ConvertOptions& options) {
  if (io::is_inside(out, source.folder)) {
    return fail(Code::Conflict,
                fmt::format("--out {} is inside the Megatron directory", out.string()))
        .pair(out.string(), "a folder outside " + source.folder.string())
        .advise("choose another --out");
  }
  BV_CHECK(plan::check_dtypes(source.model, source.hf_headers));
  BV_TRY(plan, plan::Plan::make(source.model, kinds, source.layout));
  BV_TRY(shards, checkpoint::open_shards(source.folder, plan));
  BV_CHECK(check_shard_dtypes(source, plan, shards));
  ConvertReport report;
  report.replicas = compare_replicas(plan, shards);
  if (!report.replicas.empty()) {
    return report;
  }
  report.dropped_rows = find_dropped_rows(plan, shards);
  BV_TRY(outputs, hf_outputs(source, plan, shards));
  BV_TRY(folder, io::OutputFolder::create(out, options.overwrite, options.resume));
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

}  // namespace bv::convert
