#include "core/torch_dist/store.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <nlohmann/json.hpp>
#include <set>
#include <tuple>

#include "core/base/text.hpp"
#include "core/base/workers.hpp"
#include "core/io/entry.hpp"
#include "core/io/fault_text.hpp"
#include "core/io/mapped_file.hpp"
#include "core/io/shard_index.hpp"
#include "core/io/writer.hpp"
#include "core/pickle/crc32.hpp"
#include "core/pickle/tensors.hpp"
#include "core/torch_dist/extra_states.hpp"
#include "core/torch_dist/leads_out.hpp"
#include "core/torch_dist/metadata.hpp"

namespace bv::torch_dist {
namespace fs = std::filesystem;

struct HeldFile {
  io::FileStamp stamp;
  io::Mapping mapping;
};

/// A chunk whose bytes were found, and the checksum of the record that they are.
struct HeldChunk {
  io::Chunk chunk;
  std::size_t file = 0;
  std::uint32_t crc = 0;
  bool is_whole_record = false;
};

struct HeldTensor {
  TensorSpec spec;
  std::vector<HeldChunk> chunks;
};

namespace {

constexpr std::uint64_t kMetadataBytesMax = std::uint64_t{4} << 30;
constexpr std::uint64_t kSmallBytesMax = std::uint64_t{1} << 20;
constexpr std::string_view kMetadataName = ".metadata";

Error refuse(const fs::path& file, const std::string& what) {
  const std::string shown = io::printable_path(file);
  return fail(Code::DistMetadataInvalid, fmt::format("{} cannot be used: {}", shown, what))
      .at(shown)
      .advise("use another iteration of the checkpoint, or save it again");
}

/// metadata.json names the format; a folder without it, or without .metadata, is not complete.
Status check_format(const fs::path& folder) {
  for (const std::string_view name : {std::string_view("metadata.json"), kMetadataName}) {
    if (!io::has_entry(folder / name)) {
      const std::string shown = io::printable_path(folder);
      return fail(Code::DistMetadataInvalid,
                  fmt::format("{} is not complete: it has no {}", shown, name))
          .at(shown)
          .advise("use another iteration of the checkpoint, or copy it again");
    }
  }
  const fs::path path = folder / "metadata.json";
  BV_TRY(text, io::read_file(path, kSmallBytesMax, Code::DistMetadataInvalid));
  const auto json = nlohmann::json::parse(text, nullptr, false);
  const auto backend = json.is_object() ? json.find("sharded_backend") : json.end();
  if (json.is_discarded() || !json.is_object() || backend == json.end() || !backend->is_string()) {
    return refuse(path, "it names no sharded_backend");
  }
  const auto& name = backend->get_ref<const std::string&>();
  return name == "torch_dist"
             ? Status(Done{})
             : Status(refuse(path, fmt::format("its format is {}", io::in_quotes(name)))
                          .pair(io::in_quotes(name), "\"torch_dist\""));
}

bool is_of_the_optimizer(std::string_view key) {
  return key.starts_with("optimizer.") || key.starts_with("chained_");
}

}  // namespace

struct DistCheckpoint::State {
  std::vector<fs::path> paths;
  std::vector<HeldFile> files;
  std::map<std::string, HeldTensor, std::less<>> tensors;
  Beside beside;
  std::uint64_t total_bytes = 0;
};

namespace {

/// Opens the files that the metadata names, each once, and the items in them.
class Opener {
 public:
  Opener(const fs::path& folder, std::vector<fs::path>& paths, std::vector<HeldFile>& files)
      : folder_(folder), paths_(paths), files_(files) {}

  Status start() {
    BV_TRY(boundary, io::link_boundary(folder_));
    boundary_ = boundary;
    return Done{};
  }

  Result<HeldTensor> open(const StoredTensor& stored) {
    HeldTensor out;
    out.spec = stored.spec;
    for (const StoredChunk& chunk : stored.chunks) {
      BV_TRY(held, open_chunk(stored.spec, chunk));
      out.chunks.push_back(std::move(held));
    }
    return out;
  }

  /// What is not read lies in a file of the folder all the same: Megatron will read it.
  Status check_object(const std::string& key, const Slice& slice) {
    BV_TRY(number, file_of(slice.file));
    return check_inside(key, slice, number);
  }

  /// Training writes the optimizer to files of its own, which many leave behind: one that is not
  /// there is no fault of the weights.
  Status check_optimizer(const std::string& key, const Slice& slice) {
    std::error_code none;
    if (!leads_out(slice.file) && !fs::exists(fs::symlink_status(folder_ / slice.file, none))) {
      return Done{};
    }
    return check_object(key, slice);
  }

  /// Slices of tensors share no byte: one that lies in another was made to be read twice.
  Status check_overlap() {
    std::sort(slices_.begin(), slices_.end());
    for (std::size_t i = 1; i < slices_.size(); ++i) {
      const auto& [file, begin, end] = slices_[i];
      const auto& [file_before, begin_before, end_before] = slices_[i - 1];
      if (file == file_before && begin < end_before) {
        return refuse(paths_[file],
                      fmt::format("two tensors lie on one another at byte {}", begin));
      }
    }
    return Done{};
  }

 private:
  Result<std::size_t> file_of(const std::string& name) {
    if (const auto known = number_of_.find(name); known != number_of_.end()) {
      return known->second;
    }
    if (leads_out(name)) {
      return fail(Code::UnsafePath,
                  fmt::format("{} names the file {}, which may lead out of the folder",
                              io::printable_path(folder_ / kMetadataName), io::in_quotes(name)))
          .at(io::printable_path(folder_ / kMetadataName))
          .advise("do not use this checkpoint: no program writes such a name");
    }
    BV_TRY(real, io::resolve_inside(folder_, name, boundary_));
    if (!real) {
      return refuse(folder_ / kMetadataName,
                    fmt::format("it names {}, which is not there", io::in_quotes(name)));
    }
    BV_TRY(opened, io::open_regular(*real));
    BV_TRY(mapping, io::Mapping::map(opened, *real));
    files_.push_back({opened.stamp, std::move(mapping)});
    paths_.push_back(folder_ / name);
    number_of_[name] = files_.size() - 1;
    return files_.size() - 1;
  }

  [[nodiscard]] Status check_inside(const std::string& key, const Slice& slice,
                                    std::size_t number) const {
    const std::uint64_t size = files_[number].mapping.bytes().size();
    if (slice.offset <= size && slice.length <= size - slice.offset) {
      return Done{};
    }
    return refuse(paths_[number], fmt::format("{} lies outside of it", io::in_quotes(key)))
        .pair(counted(size, "byte"),
              fmt::format("{} from byte {}", counted(slice.length, "byte"), slice.offset));
  }

  Result<HeldChunk> open_chunk(const TensorSpec& tensor, const StoredChunk& chunk) {
    BV_TRY(number, file_of(chunk.slice.file));
    const auto all = files_[number].mapping.bytes();
    const std::string shown = io::printable_path(paths_[number]);
    BV_CHECK(check_inside(tensor.name, chunk.slice, number));
    slices_.emplace_back(number, chunk.slice.offset, chunk.slice.offset + chunk.slice.length);
    const auto slice = all.subspan(chunk.slice.offset, chunk.slice.length);
    const std::string where = fmt::format("{} in {}", io::in_quotes(tensor.name), shown);
    BV_TRY(item, pickle::open_torch_file(slice, where));
    BV_TRY(found, pickle::tensor_of(item, item.pickle.root()));
    if (found.dtype != tensor.dtype || found.shape != chunk.place.extent) {
      return fail(Code::ChunksInvalid,
                  fmt::format("{}: the item is not the chunk that .metadata states", where))
          .at(shown)
          .pair(fmt::format("{} {}", name(found.dtype), shape_text(found.shape)),
                fmt::format("{} {}", name(tensor.dtype), shape_text(chunk.place.extent)))
          .advise("files of two saves lie together: save the checkpoint again");
    }
    if (!found.strides.empty()) {
      return fail(Code::PickleInvalid,
                  fmt::format("{}: a tensor of shape {} is not stored row by row", where,
                              shape_text(found.shape)))
          .at(shown)
          .pair("strides " + shape_text(found.strides), "those of a contiguous tensor")
          .advise("save the checkpoint again with contiguous parameters");
    }
    HeldChunk out;
    out.chunk = {chunk.place.origin, chunk.place.extent,
                 slice.subspan(found.begin, found.end - found.begin)};
    out.file = number;
    out.crc = found.record->crc;
    out.is_whole_record =
        found.begin == found.record->begin && found.end - found.begin == found.record->size;
    files_[number].mapping.release(slice);  // a directory and a pickle a chunk add up
    return out;
  }

  const fs::path& folder_;
  std::vector<fs::path>& paths_;
  std::vector<HeldFile>& files_;
  fs::path boundary_;
  std::map<std::string, std::size_t> number_of_;
  std::vector<std::tuple<std::size_t, std::uint64_t, std::uint64_t>> slices_;
};

}  // namespace

std::string beside_text(const Beside& beside) {
  const std::string objects = fmt::format(
      "{} objects beside the weights (extra states, common state)", thousands(beside.objects));
  return beside.optimizer_tensors == 0
             ? objects + " are not looked at"
             : fmt::format("{} and {} tensors of the optimizer are not looked at", objects,
                           thousands(beside.optimizer_tensors));
}

void tell_beside(const Beside& beside, std::vector<std::string>& notes) {
  notes.push_back(beside_text(beside));
  if (const auto count = beside.absent_states.size(); count > 0) {
    notes.push_back(fmt::format(
        "{} absent that modules of the same kind have ({}): a strict load of Megatron fails "
        "(--dist-ckpt-strictness log_all goes on)",
        counted(count, "extra state") + (count == 1 ? " is" : " are"),
        join(io::first_lines(beside.absent_states, 4), ", ")));
  }
}

DistCheckpoint::DistCheckpoint(std::unique_ptr<State> state) : state_(std::move(state)) {}
DistCheckpoint::DistCheckpoint(DistCheckpoint&&) noexcept = default;
DistCheckpoint& DistCheckpoint::operator=(DistCheckpoint&&) noexcept = default;
DistCheckpoint::~DistCheckpoint() = default;

Result<DistCheckpoint> DistCheckpoint::open(const fs::path& folder) {
  BV_CHECK(check_format(folder));
  const fs::path path = folder / kMetadataName;
  BV_TRY(text, io::read_file(path, kMetadataBytesMax, Code::DistMetadataInvalid));
  BV_TRY(metadata, read_metadata(std::as_bytes(std::span(text)), io::printable_path(path)));
  auto state = std::make_unique<State>();
  Opener opener(folder, state->paths, state->files);
  BV_CHECK(opener.start());
  state->beside.objects = std::ssize(metadata.objects);
  for (const auto& [key, stored] : metadata.tensors) {
    if (is_of_the_optimizer(key)) {
      ++state->beside.optimizer_tensors;
      for (const StoredChunk& chunk : stored.chunks) {
        BV_CHECK(opener.check_optimizer(key, chunk.slice));
      }
      continue;
    }
    BV_TRY(tensor, opener.open(stored));
    for (const HeldChunk& held : tensor.chunks) {
      state->total_bytes += held.chunk.bytes.size();
    }
    state->tensors.emplace(key, std::move(tensor));
  }
  BV_CHECK(opener.check_overlap());
  for (const auto& [key, slice] : metadata.objects) {
    BV_CHECK(opener.check_object(key, slice));
  }
  state->beside.absent_states = absent_states(metadata);
  return DistCheckpoint(std::move(state));
}

const TensorSpec* DistCheckpoint::find(std::string_view tensor) const {
  const auto found = state_->tensors.find(tensor);
  return found == state_->tensors.end() ? nullptr : &found->second.spec;
}

Headers DistCheckpoint::headers() const {
  Headers out;
  for (const auto& [key, tensor] : state_->tensors) {
    out.emplace_hint(out.end(), key, tensor.spec);
  }
  return out;
}

std::vector<io::Chunk> DistCheckpoint::chunks(const TensorSpec& tensor) const {
  std::vector<io::Chunk> out;
  for (const HeldChunk& held : state_->tensors.find(tensor.name)->second.chunks) {
    out.push_back(held.chunk);
  }
  return out;
}

const std::vector<fs::path>& DistCheckpoint::files() const {
  return state_->paths;
}
std::uint64_t DistCheckpoint::total_bytes() const {
  return state_->total_bytes;
}
const Beside& DistCheckpoint::beside() const {
  return state_->beside;
}

std::vector<std::string> DistCheckpoint::files_of(const TensorSpec& tensor) const {
  std::set<std::string> out;
  for (const HeldChunk& held : state_->tensors.find(tensor.name)->second.chunks) {
    out.insert(state_->paths[held.file].filename().string());
  }
  return {out.begin(), out.end()};
}

Status DistCheckpoint::unchanged() const {
  for (std::size_t i = 0; i < state_->files.size(); ++i) {
    BV_CHECK(io::check_unchanged(state_->paths[i], state_->files[i].stamp));
  }
  return Done{};
}

void DistCheckpoint::release(std::span<const std::byte> range) const {
  for (const HeldFile& file : state_->files) {
    file.mapping.release(range);
  }
}

Status DistCheckpoint::check_sums(int jobs, std::vector<std::string>& notes) const {
  std::vector<std::pair<const HeldTensor*, const HeldChunk*>> work;
  for (const auto& [key, tensor] : state_->tensors) {
    for (const HeldChunk& held : tensor.chunks) {
      if (held.is_whole_record && !held.chunk.bytes.empty()) {
        work.emplace_back(&tensor, &held);
      }
    }
  }
  std::vector<std::uint8_t> wrong(work.size(), 0);
  BV_CHECK(for_each_parallel(work.size(), jobs, [&](std::size_t i) -> Status {
    constexpr std::size_t kPiece = std::size_t{8} << 20;
    std::uint32_t sum = 0;
    auto left = work[i].second->chunk.bytes;
    while (!left.empty()) {
      const auto piece = left.first(std::min(left.size(), kPiece));
      sum = pickle::crc32(piece, sum);
      release(piece);
      left = left.subspan(piece.size());
    }
    wrong[i] = static_cast<std::uint8_t>(sum != work[i].second->crc);
    return Done{};
  }));
  const auto first = std::find(wrong.begin(), wrong.end(), 1);
  if (first == wrong.end()) {
    return Done{};
  }
  const auto count = std::count(wrong.begin(), wrong.end(), 1);
  if (count == std::ssize(wrong) && count > 1) {
    notes.push_back(
        "the checkpoint was written without checksums: flipped bits cannot be detected");
    return Done{};
  }
  const auto& [tensor, held] = work[static_cast<std::size_t>(first - wrong.begin())];
  Error error = fail(Code::ZipInvalid,
                     fmt::format("the checksum of {} at {} is wrong",
                                 io::in_quotes(tensor->spec.name), shape_text(held->chunk.origin)))
                    .at(io::printable_path(state_->paths[held->file]))
                    .advise("fetch the file anew, or save the checkpoint again");
  if (count > 1) {
    error.facts.push_back(fmt::format("and {} further chunks", thousands(count - 1)));
  }
  return error;
}

}  // namespace bv::torch_dist
