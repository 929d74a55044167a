#include "core/io/locate.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <span>

#include "core/base/shell.hpp"
#include "core/base/text.hpp"
#include "core/io/fault_text.hpp"
#include "core/io/headers_dump.hpp"
#include "core/io/hf_cache.hpp"
#include "core/io/mapped_file.hpp"
#include "core/io/megatron_iteration.hpp"
#include "core/io/torch_shard.hpp"

namespace bv::io {
namespace {

namespace fs = std::filesystem;

/// A checkpoint that lies in this folder, not below it.
LocatedModel by_contents(const fs::path& folder, const FolderListing& listing) {
  LocatedModel model;
  model.path = folder;
  model.folder = folder;
  model.distcp_files = listing.distcp.size();
  model.rank_files = rank_names(listing).size();
  model.kind = model.distcp_files > 0 ? ModelKind::TorchDist : ModelKind::RankFiles;
  model.how = model.distcp_files > 0 ? "a Megatron torch_dist checkpoint"
                                     : "a Megatron checkpoint of one file for each rank";
  return model;
}

/// What the iteration of a Megatron checkpoint that counts holds. nullopt: it is no checkpoint.
Result<std::optional<LocatedModel>> megatron_checkpoint(const fs::path& folder,
                                                        const FolderListing& listing) {
  if (!listing.distcp.empty() || !rank_names(listing).empty()) {
    return std::optional(by_contents(folder, listing));
  }
  BV_TRY(chosen, latest_iteration(folder));
  if (!chosen) {
    return std::optional<LocatedModel>();
  }
  BV_TRY(inner, list_folder(folder / chosen->folder));
  LocatedModel model = by_contents(folder / chosen->folder, inner);
  model.folder = folder;
  model.notes.push_back(chosen->note);
  return std::optional(std::move(model));
}

Error no_config(const fs::path& folder, const FolderListing& listing) {
  Error error =
      fail(Code::NoConfig, fmt::format("{} has no config.json", printable_path(folder)))
          .at(printable_path(folder))
          .advise("copy config.json of the model beside the weights, or give another folder");
  std::error_code ignored;
  if (!listing.safetensors.empty()) {
    error.facts.push_back(fmt::format("it holds {} named *.safetensors",
                                      counted(listing.safetensors.size(), "file")));
  }
  if (fs::exists(folder / "adapter_config.json", ignored)) {
    error.facts.emplace_back("it holds adapter_config.json: a LoRA adapter");
    error.help = "give it with --adapter, and the base model with --model";
  }
  for (const std::string& name : listing.folders) {
    if (fs::exists(folder / name / "config.json", ignored)) {
      error.facts.push_back("its folder " + in_quotes(name) + " has one");
      error.help = "--model " + printable_path(folder / name);
      break;
    }
  }
  return error;
}

Result<LocatedModel> classify_folder(const fs::path& folder) {
  BV_TRY(listing, list_folder(folder));
  LocatedModel model;
  model.path = folder;
  model.folder = folder;
  if (listing.has_config) {
    BV_TRY(place, place_weights(listing, folder));
    if (place.form == WeightsForm::PickleOnly) {
      return pickle_error(folder, listing.pickles);
    }
    model.weights = place.form;
    model.how = "a folder with config.json";
    return model;
  }
  if (listing.has_manifest) {
    model.kind = ModelKind::MegatronFolder;
    model.how = "a folder that bridge-verify wrote";
    return model;
  }
  BV_TRY(megatron, megatron_checkpoint(folder, listing));
  if (megatron) {
    return std::move(*megatron);
  }
  return no_config(folder, listing);
}

bool starts_like_a_dump(const fs::path& path) {
  constexpr std::uint64_t kLookedAt = 4096;
  const auto file = open_regular(path);
  std::string start(file ? std::min(file->stamp.size, kLookedAt) : 0, ' ');
  return file &&
         read_exactly(file->descriptor, 0, std::as_writable_bytes(std::span(start)), path) &&
         start.find(kHeadersDumpSchema) != std::string::npos;
}

Result<LocatedModel> classify_file(const fs::path& path) {
  const std::string name = path.filename().string();
  LocatedModel model;
  model.path = path;
  model.folder = path.has_parent_path() ? path.parent_path() : fs::path(".");
  model.how = "a file";
  if (name.ends_with(".safetensors") || is_torch_name(name)) {
    model.kind = ModelKind::SafetensorsFile;
  } else if (name.ends_with(".index.json")) {
    model.kind = ModelKind::IndexFile;
  } else if (name == "config.json") {
    model.kind = ModelKind::ConfigFile;
  } else if (name.ends_with(".headers.json") || name.ends_with(".json.gz") ||
             starts_like_a_dump(path)) {
    model.kind = ModelKind::HeadersDump;
  } else {
    return fail(Code::ModelNotFound, fmt::format("{} is not a model file", printable_path(path)))
        .at(printable_path(path))
        .pair(in_quotes(name),
              "*.safetensors, *.index.json, config.json, *.headers.json, *.headers.json.gz or "
              "pytorch_model*.bin")
        .advise("give the folder of the model");
  }
  return model;
}

Error not_found(std::string_view reference, const fs::path& path) {
  return fail(Code::ModelNotFound, fmt::format("there is no {}", printable(reference)))
      .fact("looked at " + printable_path(path))
      .advise(
          "give a folder with config.json, a file of the model, or ORG/NAME of a model in the HF "
          "cache");
}

Result<LocatedModel> locate_in_cache(const RepositoryName& name, const LocateRoots& roots,
                                     const fs::path& path) {
  auto found = resolve_hf_cache(roots.cache, name);
  if (!found) {
    Error error = std::move(found).error();
    if (error.code == Code::ModelNotFound) {
      error.facts.push_back("there is no such path either: " + printable_path(path));
    }
    return error;
  }
  const CachedSnapshot& snapshot = *found;
  BV_CHECK(check_cached_config(snapshot));
  BV_TRY(model, classify_folder(snapshot.folder));
  model.how = fmt::format("HF cache, {} at {}", snapshot.repository, snapshot.commit);
  model.notes = snapshot.notes;
  return model;
}

}  // namespace

Result<LocatedModel> classify_path(const fs::path& path) {
  std::error_code error;
  const fs::file_status status = fs::status(path, error);
  if (status.type() == fs::file_type::not_found) {
    return not_found(path.string(), path);
  }
  if (error) {
    return system_fault(error.value(), "looking at", path, Code::ReadFailed)
        .at(printable_path(path));
  }
  if (fs::is_directory(status)) {
    return classify_folder(path);
  }
  if (!fs::is_regular_file(status)) {
    return fail(Code::ReadFailed,
                fmt::format("{} is neither a file nor a folder", printable_path(path)))
        .at(printable_path(path))
        .advise("give a folder with config.json or a file of the model");
  }
  return classify_file(path);
}

Result<LocatedModel> locate_model(std::string_view reference, const LocateRoots& roots) {
  if (reference.empty() || reference.find('\0') != std::string_view::npos) {
    return fail(Code::ModelNotFound, fmt::format("--model {} is not a path", in_quotes(reference)))
        .advise(
            "give a folder with config.json, a file of the model, or ORG/NAME of a model in the HF "
            "cache");
  }
  const fs::path written{std::string(reference)};
  const fs::path path = written.is_absolute() || roots.working_folder.empty()
                            ? written
                            : roots.working_folder / written;
  std::error_code ignored;
  const bool is_there =
      fs::symlink_status(path, ignored).type() != fs::file_type::not_found && !ignored;
  if (is_there) {
    return classify_path(path);
  }
  const auto name = parse_repository(reference);
  return name ? locate_in_cache(*name, roots, path)
              : Result<LocatedModel>(not_found(reference, path));
}

Result<std::optional<LocatedModel>> megatron_below(const fs::path& folder) {
  BV_TRY(listing, list_folder(folder));
  if (listing.has_manifest) {
    return std::optional<LocatedModel>();
  }
  return megatron_checkpoint(folder, listing);
}

Status require_hf(const LocatedModel& model) {
  const std::string place = printable_path(model.folder);
  if (model.kind == ModelKind::TorchDist) {
    return fail(Code::NoConfig, fmt::format("{} has no config.json", place))
        .at(place)
        .fact(fmt::format("it holds {} *.distcp files: a Megatron torch_dist checkpoint",
                          model.distcp_files))
        .advise("judge it against its HF model: check --model HF_DIR --megatron CKPT_DIR");
  }
  if (model.kind == ModelKind::RankFiles) {
    return fail(Code::NoConfig, fmt::format("{} has no config.json", place))
        .at(place)
        .fact(fmt::format("it holds a Megatron checkpoint of {}, one for each rank",
                          counted(model.rank_files, "file")))
        .advise("bridge-verify check --model HF_DIR --megatron " +
                shell_quoted(model.folder.string()));
  }
  if (model.kind == ModelKind::MegatronFolder) {
    return fail(Code::NoConfig, fmt::format("{} has no config.json", place))
        .at(place)
        .fact("it holds manifest.json: a Megatron checkpoint that bridge-verify wrote")
        .advise(
            "to compare it with its HF model: bridge-verify diff HF_DIR DIR; to get that back: "
            "bridge-verify convert --to hf");
  }
  return Done{};
}

}  // namespace bv::io
