#include "core/io/checkpoint_parts.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>

#include "core/base/arith.hpp"
#include "core/base/text.hpp"
#include "core/io/fault_text.hpp"
#include "core/io/shard_index.hpp"
#include "core/io/torch_shard.hpp"
#include "core/io/weights_listing.hpp"
#include "core/io/writer.hpp"

namespace bv::io {
namespace {

namespace fs = std::filesystem;

constexpr std::size_t kFirstRead = std::size_t{64}
                                   << 10;  // covers the header of most shards in one call

/// Gathers the files of one checkpoint.
class Loader {
 public:
  explicit Loader(fs::path folder) : folder_(std::move(folder)) {}

  /// A file that the caller named: its links are followed wherever they lead.
  Status add_file(const fs::path& path);
  /// Names of one folder, which may be hostile. Absent files go to `missing`.
  Status add_names(const std::vector<std::string>& names);
  Status load_index(const std::string& index_name, const FolderListing& listing);
  Status load_listing(const std::vector<std::string>& names, const FolderListing& listing);
  CheckpointParts parts;

 private:
  Status add_tensor(StoredTensor&& tensor);
  Status match_index(const ShardIndex& index);
  void look_beside(const std::vector<std::string>& read, const FolderListing& listing);
  void note_second(const WeightsSet& set);
  void note_unread(const std::vector<std::string>& files);
  void note_total_size(const ShardIndex& index);
  [[nodiscard]] std::string file_name(std::size_t file) const {
    return printable_path(parts.files[file].filename());
  }

  fs::path folder_;
  std::string index_name_;  // empty without an index
};

/// Reads what the file says it holds, and maps it.
Result<SafetensorsHeader> header_of(const OpenedFile& file, const fs::path& path,
                                    Mapping& mapping) {
  if (is_torch_name(path.filename().string())) {
    BV_TRY(mapped, Mapping::map(file, path));
    mapping = std::move(mapped);
    return torch_header(mapping.bytes(), path);
  }
  BV_TRY(header, read_header(file, path));
  BV_TRY(mapped, Mapping::map(file, path));
  mapping = std::move(mapped);
  return std::move(header);
}

Status Loader::add_file(const fs::path& path) {
  BV_TRY(opened, open_regular(path));
  ShardFile shard;
  shard.stamp = opened.stamp;
  BV_TRY(header, header_of(opened, path, shard.mapping));
  shard.data_begin = header.data_begin;
  shard.metadata = std::move(header.metadata);
  const auto format = shard.metadata.find("format");
  constexpr std::string_view kFormats[] = {"pt", "tf", "flax", "mlx"};
  if (format != shard.metadata.end() &&
      std::find(std::begin(kFormats), std::end(kFormats), format->second) == std::end(kFormats)) {
    parts.findings.push_back(
        {printable_path(path),
         "__metadata__.format is " + in_quotes(format->second) + ", which transformers refuses",
         Code::HeaderNotJson, false});
  }
  parts.findings.insert(parts.findings.end(), header.findings.begin(), header.findings.end());
  parts.files.push_back(path);
  parts.names.push_back(path.lexically_relative(folder_).generic_string());
  parts.shards.push_back(std::move(shard));
  for (StoredTensor& tensor : header.tensors) {
    tensor.file = parts.files.size() - 1;
    BV_CHECK(add_tensor(std::move(tensor)));
  }
  return Done{};
}

Status Loader::add_tensor(StoredTensor&& tensor) {
  const auto [place, added] = parts.tensors.try_emplace(tensor.spec.name);
  if (added) {
    parts.total_bytes += tensor_bytes(tensor.spec);
    place->second = std::move(tensor);
    return Done{};
  }
  const std::string both =
      fmt::format("{} and {}", file_name(place->second.file), file_name(tensor.file));
  if (index_name_.empty()) {
    Error error =
        fail(Code::DuplicateKey,
             fmt::format("tensor {} is in two files: {}", in_quotes(tensor.spec.name), both))
            .at(printable_path(folder_))
            .advise("readers disagree on which one counts: delete the stale file, or add an index");
    const auto first = shard_number(parts.names[place->second.file]);
    const auto other = shard_number(parts.names[tensor.file]);
    if (first && other && (first->stem != other->stem || first->total != other->total)) {
      error.facts.push_back(printable(fmt::format("two sets of shards: {} and {}",
                                                  numbered_set(*first), numbered_set(*other))));
    }
    return error;
  }
  return fail(Code::IndexDisagrees, fmt::format("tensor {} is in two files of the index: {}",
                                                in_quotes(tensor.spec.name), both))
      .at(printable_path(folder_ / index_name_))
      .advise("delete the stale copy: save the checkpoint again");
}

Status Loader::add_names(const std::vector<std::string>& names) {
  BV_TRY(boundary, link_boundary(folder_));
  std::map<fs::path, std::string> opened;
  for (const std::string& name : names) {
    BV_TRY(real, resolve_inside(folder_, name, boundary));
    if (!real) {
      parts.missing.push_back({name, {}});
      continue;
    }
    const auto [first, is_new] = opened.try_emplace(*real, name);
    if (!is_new) {
      return fail(Code::IndexDisagrees, fmt::format("shards {} and {} are links to one file",
                                                    in_quotes(first->second), in_quotes(name)))
          .at(printable_path(folder_))
          .advise("fetch the shards again");
    }
    BV_CHECK(add_file(folder_ / name));
  }
  return Done{};
}

Status Loader::load_index(const std::string& index_name, const FolderListing& listing) {
  const fs::path path = folder_ / index_name;
  BV_TRY(text, read_file(path, kIndexBytesMax, Code::IndexInvalid));
  BV_TRY(index, parse_shard_index(text, printable_path(path)));
  index_name_ = index_name;
  BV_CHECK(add_names(index.shards));
  BV_CHECK(match_index(index));
  for (const IndexedTensor& tensor : index.tensors) {
    parts.named.push_back(tensor.name);
  }
  look_beside(index.shards, listing);
  if (parts.missing.empty()) {
    note_total_size(index);
  }
  return Done{};
}

Status Loader::load_listing(const std::vector<std::string>& names, const FolderListing& listing) {
  BV_CHECK(add_names(names));
  for (const std::string& name : missing_by_number(names)) {
    parts.missing.push_back({name, {}});
  }
  look_beside(names, listing);
  return Done{};
}

/// Walks index and files, both in name order. The index is authoritative: a tensor that it does not
/// name is a stray and is left out, with a finding.
Status Loader::match_index(const ShardIndex& index) {
  std::vector<std::string> disagreements;
  std::map<std::string, MissingShard*, std::less<>> missing;
  for (MissingShard& shard : parts.missing) {
    missing.emplace(shard.file, &shard);
  }
  std::vector<std::string> strays;
  auto found = parts.tensors.begin();
  const auto drop_strays_before = [&](const std::string* name) {
    while (found != parts.tensors.end() && (name == nullptr || found->first < *name)) {
      strays.push_back(
          fmt::format("{} in {}", in_quotes(found->first), file_name(found->second.file)));
      parts.total_bytes -= found->second.end - found->second.begin;
      found = parts.tensors.erase(found);
    }
  };
  for (const IndexedTensor& tensor : index.tensors) {
    const std::string& shard = index.shards[tensor.shard];
    drop_strays_before(&tensor.name);
    if (found != parts.tensors.end() && found->first == tensor.name) {
      const std::string& holder = parts.names[found->second.file];
      if (holder != shard) {
        disagreements.push_back(fmt::format("index puts {} in {}, the file with it is {}",
                                            in_quotes(tensor.name), in_quotes(shard),
                                            in_quotes(holder)));
      }
      ++found;
    } else if (const auto absent = missing.find(shard); absent != missing.end()) {
      absent->second->tensors.push_back(tensor.name);
    } else {
      disagreements.push_back(fmt::format("index puts {} in {}, no file has it",
                                          in_quotes(tensor.name), in_quotes(shard)));
    }
  }
  drop_strays_before(nullptr);
  const std::string place = printable_path(folder_ / index_name_);
  if (!disagreements.empty()) {
    Error error =
        fail(Code::IndexDisagrees, disagreements.front())
            .at(place)
            .advise("save the checkpoint again, or fetch index and shards of one revision");
    if (disagreements.size() > 1) {
      error.facts.push_back("and " + counted(disagreements.size() - 1, "further disagreement"));
    }
    return error;
  }
  if (!strays.empty()) {
    const std::string more =
        strays.size() > 1 ? fmt::format(", and {} more", grouped(strays.size() - 1)) : "";
    parts.findings.push_back(
        {place,
         fmt::format("tensor {} is not in the index and is left out{}", strays.front(), more),
         Code::IndexDisagrees});
  }
  return Done{};
}

/// What else the folder holds: a checkpoint that could have been read instead, or files that are
/// none.
void Loader::look_beside(const std::vector<std::string>& read, const FolderListing& listing) {
  ReadWeights ours{index_name_, read, {}, parts.named};
  for (const ShardFile& shard : parts.shards) {
    ours.stamps.push_back(shard.stamp);
  }
  std::uint64_t elements = 0;
  for (const auto& [name, tensor] : parts.tensors) {
    elements += static_cast<std::uint64_t>(element_count(tensor.spec.shape).value_or(0));
    if (index_name_.empty()) {
      ours.tensors.push_back(name);
    }
  }
  parts.others = other_sets(folder_, listing, ours);
  std::vector<std::string> unread;
  for (const WeightsSet& set : parts.others) {
    if (parts.missing.empty() && is_second_checkpoint(set, ours.tensors.size(), elements)) {
      note_second(set);
    } else {
      unread.insert(unread.end(), set.files.begin(), set.files.end());
    }
  }
  note_unread(unread);
}

void Loader::note_second(const WeightsSet& set) {
  const std::string ours = index_name_.empty() ? "model.safetensors" : index_name_;
  const std::string holds =
      set.shared == parts.tensors.size()
          ? fmt::format("it holds {} of that name too", counted(set.shared, "tensor"))
          : fmt::format("it holds {} with as many elements", counted(set.tensors, "tensor"));
  FormatFinding finding;
  finding.file = printable_path(folder_);
  finding.what = fmt::format("{} was read, and {} lies beside it: two checkpoints in one folder",
                             printable(ours), set.text());
  finding.code = Code::IndexDisagrees;
  finding.warning = Code::SecondCheckpoint;
  finding.facts = {holds};
  if (set.name == "model.safetensors") {
    finding.facts.emplace_back("transformers loads model.safetensors, not the shards of an index");
  }
  finding.help = "move the one that is not meant out of the folder";
  parts.findings.push_back(std::move(finding));
}

void Loader::note_unread(const std::vector<std::string>& files) {
  if (files.empty()) {
    return;
  }
  const std::string place = printable_path(index_name_.empty() ? folder_ : folder_ / index_name_);
  if (!index_name_.empty() &&
      std::find(files.begin(), files.end(), "model.safetensors") != files.end()) {
    parts.findings.push_back(
        {place,
         "model.safetensors lies beside the index: transformers loads that file and not the shards",
         Code::IndexDisagrees});
  }
  parts.findings.push_back(
      {place,
       printable((index_name_.empty() ? "not read: " : "not in the index and not read: ") +
                 join(first_lines(files, 6), ", ")),
       Code::IndexDisagrees, false});
}

void Loader::note_total_size(const ShardIndex& index) {
  if (index.total_size &&
      std::fabs(*index.total_size - static_cast<double>(parts.total_bytes)) > 0.5) {
    parts.findings.push_back({printable_path(folder_ / index_name_),
                              fmt::format("total_size says {:.0f} bytes, the tensors have {}",
                                          *index.total_size, parts.total_bytes),
                              Code::IndexDisagrees, false});
  }
}

Result<CheckpointParts> load_folder(const fs::path& folder) {
  BV_TRY(listing, list_folder(folder));
  BV_TRY(place, place_weights(listing, folder));
  Loader loader(folder);
  switch (place.form) {
    case WeightsForm::Index:
      BV_CHECK(loader.load_index(place.index, listing));
      break;
    case WeightsForm::OneFile:
    case WeightsForm::Listing:
      BV_CHECK(loader.load_listing(place.files, listing));
      break;
    case WeightsForm::PickleOnly:
      return pickle_error(folder, listing.pickles);
    case WeightsForm::None: {
      Error error = fail(Code::ModelNotFound,
                         fmt::format("{} has no *.safetensors file", printable_path(folder)))
                        .at(printable_path(folder))
                        .advise("give a folder with weights, or a headers dump");
      if (!listing.distcp.empty()) {
        error.facts.push_back(fmt::format(
            "it holds {} *.distcp files: a Megatron torch_dist checkpoint", listing.distcp.size()));
      }
      return error;
    }
  }
  return std::move(loader.parts);
}

}  // namespace

Result<SafetensorsHeader> read_header(const OpenedFile& file, const fs::path& path) {
  const std::string shown = printable_path(path);
  std::uint64_t there = std::min<std::uint64_t>(file.stamp.size, kFirstRead);
  std::vector<std::byte> start(there);
  BV_CHECK(read_exactly(file.descriptor, 0, start, path));
  BV_TRY(data_begin, safetensors_data_begin(start, file.stamp.size, shown));
  if (data_begin > there) {
    start.resize(data_begin);
    BV_CHECK(read_exactly(file.descriptor, there, std::span(start).subspan(there), path));
  }
  return parse_safetensors_header(start, file.stamp.size, shown);
}

Result<CheckpointParts> load_parts(const fs::path& path) {
  std::error_code error;
  const fs::file_status status = fs::status(path, error);
  if (status.type() == fs::file_type::not_found) {
    return fail(Code::ModelNotFound, fmt::format("there is no {}", printable_path(path)))
        .at(printable_path(path))
        .advise("correct the path");
  }
  if (error) {
    return system_fault(error.value(), "looking at", path, Code::ReadFailed)
        .at(printable_path(path));
  }
  const std::string name = path.filename().string();
  if (fs::is_directory(status)) {
    return load_folder(path);
  }
  const fs::path folder = path.has_parent_path() ? path.parent_path() : fs::path(".");
  Loader loader(folder);
  if (name.ends_with(".index.json")) {
    BV_TRY(listing, list_folder(folder));
    BV_CHECK(loader.load_index(name, listing));
  } else {
    BV_CHECK(loader.add_file(path));
  }
  return std::move(loader.parts);
}

}  // namespace bv::io
