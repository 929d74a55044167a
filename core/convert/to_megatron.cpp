#include <fmt/format.h>

#include <algorithm>
#include <set>

#include "core/checkpoint/manifest.hpp"
#include "core/convert/convert.hpp"
#include "core/io/digest.hpp"
#include "core/io/output_folder.hpp"
#include "core/io/writer.hpp"
#include "core/kinds/value_rule.hpp"

namespace bv::convert {
namespace fs = std::filesystem;

namespace {

std::vector<checkpoint::SourceTensor> sources_of(const checkpoint::HfModel& source,
                                                 const model::Mapping& mapping) {
  std::vector<checkpoint::SourceTensor> out;
  for (const std::string& hf : mapping.hf) {
    out.push_back({&*source.checkpoint, &source.checkpoint->tensors().find(hf)->second});
  }
  return out;
}

std::vector<OutputFile> shard_outputs(const checkpoint::HfModel& source, const plan::Plan& plan,
                                      const plan::DtypePolicy& policy) {
  std::vector<OutputFile> out;
  for (const plan::ShardFile& file : plan.files()) {
    OutputFile output;
    output.name = file.name;
    output.metadata = {{"format", "pt"}};
    for (const plan::Target& target : file.targets) {
      const model::Mapping& mapping = plan.model().mappings[target.mapping];
      OutputTensor tensor;
      tensor.spec.name = target.name;
      tensor.spec.shape = plan.bound(mapping).target_shapes()[0];
      tensor.spec.dtype =
          plan::target_dtype(*mapping.rule, plan::dtypes_of(source.headers, mapping), policy);
      tensor.sources = sources_of(source, mapping);
      tensor.boxes = [&plan, &target] { return plan.shard(target).boxes; };
      tensor.add = kinds::added_on_import(mapping.rule->value);
      output.tensors.push_back(std::move(tensor));
    }
    out.push_back(std::move(output));
  }
  return out;
}

bool is_weight_file(const fs::path& path) {
  static const std::set<std::string> kWeights = {".safetensors", ".bin", ".pt",      ".pth",
                                                 ".gguf",        ".h5",  ".msgpack", ".distcp"};
  return kWeights.contains(path.extension().string());
}

/// Config, tokenizer and code travel with the shards.
Result<std::vector<std::string>> carry_files(const fs::path& from, const fs::path& to) {
  std::vector<std::string> out;
  std::error_code error;
  fs::create_directories(to, error);
  for (const auto& entry : fs::directory_iterator(from, error)) {
    if (!entry.is_regular_file(error) || is_weight_file(entry.path())) {
      continue;
    }
    BV_TRY(text, io::read_file(entry.path(), std::uint64_t{1} << 30));
    BV_CHECK(io::write_file(to / entry.path().filename(), text));
    out.push_back(entry.path().filename().string());
  }
  if (error) {
    return fail(Code::PermissionDenied,
                fmt::format("cannot list {}: {}", from.string(), error.message()))
        .advise("make the folder readable");
  }
  std::sort(out.begin(), out.end());
  return out;
}

/// HF tensors that no shard holds: dropped, excluded, and buffers that every loader computes again.
/// A stored copy is made again from the other.
std::set<std::string> tensors_left_out(const checkpoint::HfModel& source) {
  const model::Model& model = source.model;
  std::set<std::string> out(model.ignored.begin(), model.ignored.end());
  for (const auto& [copy, original] : model.must_equal) {
    out.erase(copy);
  }
  out.insert(model.dropped.begin(), model.dropped.end());
  out.insert(source.excluded.begin(), source.excluded.end());
  return out;
}

checkpoint::MegatronFolder describe(const checkpoint::HfModel& source,
                                    const parallel::Layout& layout,
                                    const plan::DtypePolicy& policy) {
  checkpoint::MegatronFolder out;
  out.layout = layout;
  out.dtype = policy;
  out.family = family::name(*source.model.family);
  out.resolve = source.resolve;
  const std::set<std::string> left_out = tensors_left_out(source);
  const auto& files = source.checkpoint->files();
  for (std::size_t i = 0; i < files.size(); ++i) {
    out.hf_metadata[files[i].filename().string()] = source.checkpoint->metadata(i);
  }
  for (const auto& [tensor, stored] : source.checkpoint->tensors()) {
    if (!left_out.contains(tensor)) {
      out.hf_headers[tensor] = stored.spec;
      out.hf_file_of[tensor] = files[stored.file].filename().string();
    }
  }
  return out;
}

}  // namespace

Result<ConvertReport> to_megatron(const checkpoint::HfModel& source, const kinds::Catalogue& kinds,
                                  const parallel::Layout& layout, const fs::path& out,
                                  const ConvertOptions& options) {
  if (io::is_inside(out, source.folder)) {
    return fail(Code::Conflict, fmt::format("--out {} is inside the model directory", out.string()))
        .pair(out.string(), "a folder outside " + source.folder.string())
        .advise("choose another --out");
  }
  BV_TRY(plan, plan::Plan::make(source.model, kinds, layout));
  BV_CHECK(plan::check_dtypes(source.model, source.headers));
  ConvertReport report;
  report.losses = find_losses(source, options.dtype, options.jobs);
  BV_TRY(folder, io::OutputFolder::create(out, options.overwrite, options.resume));
  const auto outputs = shard_outputs(source, plan, options.dtype);
  BV_CHECK(folder.keep_only(names_of(outputs)));
  BV_TRY(digests,
         write_files(folder.partial(), outputs, {options.jobs, options.progress, options.resume}));
  if (options.verify) {
    BV_CHECK(verify_files(folder.partial(), digests, options.jobs));
  }
  checkpoint::MegatronFolder description = describe(source, layout, options.dtype);
  BV_TRY(carried, carry_files(source.folder, folder.partial() / checkpoint::kCarriedFolder));
  description.carried = std::move(carried);
  description.digests = digests;
  BV_CHECK(io::write_file(
      folder.partial() / checkpoint::kManifestName,
      checkpoint::manifest_text(description, checkpoint::rules_digest(source.model, kinds),
                                source.header_digest)));
  BV_CHECK(folder.finish());
  report.digests = std::move(digests);
  for (const OutputFile& file : outputs) {
    report.tensors += static_cast<std::int64_t>(file.tensors.size());
  }
  return report;
}

}  // namespace bv::convert
