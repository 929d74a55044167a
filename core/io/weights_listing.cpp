#include "core/io/weights_listing.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <cerrno>

#include "core/base/text.hpp"
#include "core/io/fault_text.hpp"
#include "core/io/shard_index.hpp"
#include "core/io/torch_shard.hpp"

namespace bv::io {
namespace {

namespace fs = std::filesystem;

constexpr std::string_view kMainIndex = "model.safetensors.index.json";
constexpr std::string_view kMainFile = "model.safetensors";
constexpr std::string_view kTorchIndex = "pytorch_model.bin.index.json";
constexpr std::string_view kTorchFile = "pytorch_model.bin";

bool holds(const std::vector<std::string>& names, std::string_view wanted) {
  return std::binary_search(names.begin(), names.end(), wanted);
}

bool is_pickle_weights(std::string_view name) {
  constexpr std::string_view kNoWeights[] = {"training_args", "optimizer", "scheduler", "rng_state",
                                             "scaler"};
  return is_torch_name(name) &&
         std::none_of(std::begin(kNoWeights), std::end(kNoWeights),
                      [&](std::string_view start) { return name.starts_with(start); });
}

void sort_into(FolderListing& out, const fs::directory_entry& entry) {
  const std::string name = entry.path().filename().string();
  std::error_code ignored;
  const bool index = name.ends_with(".safetensors.index.json") || name.ends_with(".bin.index.json");
  if (entry.is_directory(ignored) && !index) {
    out.folders.push_back(name);
  } else if (name.starts_with('.')) {
    return;
  } else if (name.ends_with(".safetensors")) {
    out.safetensors.push_back(name);
  } else if (name.ends_with(".safetensors.index.json")) {
    out.indexes.push_back(name);
  } else if (name.ends_with(".bin.index.json")) {
    out.pickle_indexes.push_back(name);
  } else if (name.ends_with(".distcp")) {
    out.distcp.push_back(name);
  } else if (is_pickle_weights(name)) {
    out.pickles.push_back(name);
  }
  out.has_config = out.has_config || name == "config.json";
  out.has_manifest = out.has_manifest || name == "manifest.json";
}

/// Where transformers looks for weights of torch.save.
void place_pickles(const FolderListing& listing, WeightsPlace& place) {
  if (holds(listing.pickle_indexes, kTorchIndex)) {
    place.form = WeightsForm::Index;
    place.index = kTorchIndex;
    return;
  }
  if (holds(listing.pickles, kTorchFile)) {
    place.form = WeightsForm::OneFile;
    place.files = {std::string(kTorchFile)};
    return;
  }
  for (const std::string& name : listing.pickles) {
    if (const auto number = shard_number(name); number && number->stem == "pytorch_model") {
      place.form = WeightsForm::Listing;
      place.files.push_back(name);
    }
  }
  if (place.files.empty() && !listing.pickles.empty()) {
    place.form = WeightsForm::PickleOnly;
  }
}

}  // namespace

Result<FolderListing> list_folder(const fs::path& folder) {
  FolderListing out;
  std::error_code error;
  fs::directory_iterator at(folder, error);
  for (; !error && at != fs::directory_iterator(); at.increment(error)) {
    sort_into(out, *at);
  }
  if (error.value() == ENOENT) {
    return fail(Code::ModelNotFound, fmt::format("there is no folder {}", printable_path(folder)))
        .at(printable_path(folder))
        .advise("correct the path");
  }
  if (error) {
    return system_fault(error.value(), "listing", folder, Code::ReadFailed)
        .at(printable_path(folder));
  }
  for (auto* names : {&out.safetensors, &out.indexes, &out.pickles, &out.pickle_indexes,
                      &out.distcp, &out.folders}) {
    std::sort(names->begin(), names->end());
  }
  return out;
}

Result<WeightsPlace> place_weights(const FolderListing& listing, const fs::path& folder) {
  WeightsPlace place;
  if (listing.indexes.size() == 1 || holds(listing.indexes, kMainIndex)) {
    place.form = WeightsForm::Index;
    place.index =
        holds(listing.indexes, kMainIndex) ? std::string(kMainIndex) : listing.indexes.front();
  } else if (listing.indexes.size() > 1) {
    return fail(Code::IndexInvalid,
                fmt::format("{} has {} indexes and none is {}", printable_path(folder),
                            listing.indexes.size(), kMainIndex))
        .at(printable_path(folder))
        .fact(join(first_lines(listing.indexes, 6), ", "))
        .advise("give the index itself, for example --model " +
                printable_path(folder / listing.indexes.front()));
  } else if (holds(listing.safetensors, kMainFile)) {
    place.form = WeightsForm::OneFile;
    place.files = {std::string(kMainFile)};
  } else if (!listing.safetensors.empty()) {
    place.form = WeightsForm::Listing;
    place.files = listing.safetensors;
  } else {
    place_pickles(listing, place);
  }
  return place;
}

Error pickle_error(const fs::path& place, const std::vector<std::string>& pickles) {
  return fail(Code::NotSafetensors, fmt::format("{} has pickle weights that are not an archive "
                                                "of torch.save (torch 1.6 or later)",
                                                printable_path(place)))
      .at(printable_path(place))
      .fact(printable(join(first_lines(pickles, 4), ", ")))
      .fact("older files would have to be executed, and are not")
      .advise("convert once with transformers save_pretrained(safe_serialization=True)");
}

}  // namespace bv::io
