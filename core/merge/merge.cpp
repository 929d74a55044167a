#include "core/merge/merge.hpp"

#include <fmt/format.h>

#include <nlohmann/json.hpp>
#include <set>

#include "core/base/arith.hpp"
#include "core/base/json_text.hpp"
#include "core/base/text.hpp"
#include "core/checkpoint/config_edit.hpp"
#include "core/convert/carried_index.hpp"
#include "core/convert/carry.hpp"
#include "core/convert/shared_output.hpp"
#include "core/io/fault_text.hpp"
#include "core/io/output_folder.hpp"
#include "core/io/torch_shard.hpp"
#include "core/io/whole_tensor.hpp"
#include "core/merge/merge_plan.hpp"

namespace bv::lora {
namespace fs = std::filesystem;

namespace {

convert::OutputTensor unchanged(const io::Checkpoint& checkpoint, const io::StoredTensor& stored,
                                std::string name) {
  convert::OutputTensor out;
  out.spec = stored.spec;
  out.spec.name = std::move(name);
  out.sources = {{&checkpoint, &stored.spec}};
  const std::int64_t elements = element_count(stored.spec.shape).value_or(0);
  out.boxes = [elements] {
    layout::Box box;
    box.axes = {{elements, 1, 1}};
    return std::vector<layout::Box>{box};
  };
  return out;
}

/// What the adapter does to a tensor: `output` begins as `stored`.
Status edit(const TensorEdits& edits, const io::Checkpoint& checkpoint,
            const io::StoredTensor& stored, const MergeBy& by, convert::OutputTensor& output) {
  BV_TRY(whole, io::WholeTensor::read(checkpoint, stored));
  BV_TRY(merge, TensorMerge::make(output.spec, edits, by, whole.bytes()));
  const auto shared = std::make_shared<TensorMerge>(std::move(merge));
  output.granule = shared->granule() * kTileRows;  // whole tiles
  output.edit = [shared](std::int64_t begin, std::span<const std::byte> made,
                         std::span<std::byte> to) { return shared->apply(begin, made, to); };
  return Done{};
}

Result<std::vector<convert::OutputFile>> merged_outputs(const checkpoint::HfModel& base,
                                                        const MergePlan& plan, const MergeBy& by) {
  const io::Checkpoint& checkpoint = *base.checkpoint;
  std::vector<convert::OutputFile> out(checkpoint.names().size());
  for (std::size_t i = 0; i < out.size(); ++i) {
    out[i].name = io::safetensors_name(checkpoint.names()[i]);
    out[i].metadata = checkpoint.metadata(i);
    out[i].metadata.try_emplace("format", "pt");
  }
  for (const auto& [tensor, stored] : checkpoint.tensors()) {
    convert::OutputTensor output = unchanged(checkpoint, stored, tensor);
    if (const auto at = plan.edits.find(tensor); at != plan.edits.end()) {
      BV_CHECK(edit(at->second, checkpoint, stored, by, output));
    }
    out[stored.file].tensors.push_back(std::move(output));
  }
  for (const Untied& one : plan.untied) {
    const auto at = checkpoint.tensors().find(one.from);
    if (one.is_new() && at != checkpoint.tensors().end()) {
      convert::OutputTensor output = unchanged(checkpoint, at->second, one.made);
      if (const auto own = plan.edits.find(one.made); own != plan.edits.end()) {
        BV_CHECK(edit(own->second, checkpoint, at->second, by, output));
      }
      out[at->second.file].tensors.push_back(std::move(output));
    }
  }
  return out;
}

/// Every tensor that is new, in the file of the one that it was.
Result<std::string> index_with(const std::string& original, const std::vector<Untied>& untied,
                               const io::Checkpoint& checkpoint) {
  try {
    auto json = nlohmann::ordered_json::parse(original);
    std::uint64_t more = 0;
    for (const Untied& one : untied) {
      if (one.is_new()) {
        json.at("weight_map")[one.made] = json.at("weight_map").at(one.from);
        more += tensor_bytes(checkpoint.tensors().find(one.from)->second.spec);
      }
    }
    if (json.contains("metadata") && json["metadata"].contains("total_size")) {
      json["metadata"]["total_size"] = checkpoint.total_bytes() + more;
    }
    return visible_json(json.dump(2)) + "\n";
  } catch (const std::exception& problem) {  // it was read before, but by another reader
    return convert::cannot_write_index(problem);
  }
}

/// Config, tokenizer and index go along; what untying changes goes along as it is then.
Result<convert::CarryPlan> carried_files(const checkpoint::HfModel& base, const MergePlan& plan,
                                         bool follow_links) {
  const auto& names = base.checkpoint->names();
  BV_TRY(carried, convert::plan_carry(base.folder, {names.begin(), names.end()}, follow_links));
  BV_TRY(config, checkpoint::carried_config(base, base.config_text));
  for (const auto& [path, value] : merged_members(base, plan)) {
    config = checkpoint::with_member(config, path, value);
  }
  carried.files["config.json"] = {base.folder / "config.json", std::move(config)};
  BV_TRY(index, convert::carried_index(carried, base.folder));
  if (plan.adds_tensors() && index != nullptr) {
    BV_TRY(text, convert::text_of(*index));
    BV_TRY(changed, index_with(text, plan.untied, *base.checkpoint));
    index->text = std::move(changed);
  }
  return std::move(carried);
}

io::OutputRequest request_for(const checkpoint::HfModel& base, const Adapter& adapter,
                              const fs::path& out, const MergeOptions& options) {
  io::OutputRequest request{out, options.overwrite, options.resume};
  request.sources = base.checkpoint->files();
  request.sources.push_back(base.folder);
  request.sources.push_back(adapter.folder);
  return request;
}

/// An earlier output of this merge: its files, with the headers that this run writes and the
/// carried files as they are.
Result<io::FirstStranger> strangers(io::KnownFiles known, const convert::CarryPlan& carried) {
  for (const auto& [name, file] : carried.files) {
    if (file.text) {
      const io::FilePrint print = io::print_of_text(*file.text);
      known[name] = {print.bytes, "", print.digest};
    } else {
      BV_TRY(print, io::print_of_file(file.from));
      known[name] = {print.bytes, "", print.digest};
    }
  }
  return io::all_but(std::move(known));
}

Status write(const checkpoint::HfModel& base, const Adapter& adapter, const fs::path& out,
             const MergeOptions& options, const std::vector<convert::OutputFile>& outputs,
             const convert::CarryPlan& carried, MergeReport& report) {
  BV_TRY(plans, convert::plan_files(outputs));
  io::OutputRequest request = request_for(base, adapter, out, options);
  BV_TRY(stranger, strangers(convert::known_files(outputs, plans), carried));
  request.first_stranger = stranger;
  BV_TRY(more_bytes, convert::carried_bytes(carried));
  std::set<std::string> names = convert::names_of(outputs);
  convert::add_names(carried, "", names);
  request.files = names;
  BV_TRY(folder, convert::SharedOutput::create(std::move(request), convert::names_of(outputs),
                                               options.world));
  const std::vector<int> processes = folder.balanced(plans);
  BV_TRY(digests,
         folder.write(
             outputs, std::move(plans), processes,
             {options.jobs, options.progress, options.resume,
              options.device == nullptr ? options.windows : convert::kDeviceWindows, more_bytes},
             options.verify));
  if (folder.is_host()) {
    BV_CHECK(convert::carry(carried, folder.partial()));
  }
  BV_CHECK(folder.finish(names));
  report.digests = std::move(digests);
  return Done{};
}

}  // namespace

Status check_place_for_merge(const checkpoint::HfModel& base, const Adapter& adapter,
                             const fs::path& out, const MergeOptions& options) {
  io::OutputRequest request = request_for(base, adapter, out, options);
  request.first_stranger = [](const fs::path&) { return std::optional<std::string>(); };
  return io::check_output_place(request);
}

Result<MergeReport> merge_model(const checkpoint::HfModel& base, const Adapter& adapter,
                                const fs::path& out, const MergeOptions& options) {
  BV_TRY(plan, plan_merge(base, adapter, options.untie));
  BV_TRY(outputs, merged_outputs(base, plan, {best_merge_isa(), options.device}));
  BV_TRY(carried, carried_files(base, plan, options.follow_links));
  MergeReport report;
  report.notes = carried.notes;
  const std::vector<std::string> notes = plan.notes();
  report.notes.insert(report.notes.end(), notes.begin(), notes.end());
  report.merged = std::ssize(plan.edits);
  for (const convert::OutputFile& file : outputs) {
    report.tensors += std::ssize(file.tensors);
  }
  BV_CHECK(write(base, adapter, out, options, outputs, carried, report));
  return report;
}

}  // namespace bv::lora
