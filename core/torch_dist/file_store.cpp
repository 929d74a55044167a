#include "core/torch_dist/file_store.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <charconv>
#include <map>
#include <optional>
#include <tuple>

#include "core/io/entry.hpp"
#include "core/io/fault_text.hpp"
#include "core/io/mapped_file.hpp"
#include "core/pickle/crc32.hpp"
#include "core/pickle/state_dict.hpp"
#include "core/pickle/strided.hpp"
#include "core/pickle/tensors.hpp"

namespace bv::torch_dist {
namespace fs = std::filesystem;

/// A tensor, and the bytes of the file that hold it.
struct FileTensor {
  TensorSpec spec;
  std::uint64_t begin = 0;
  std::uint64_t end = 0;
  std::unique_ptr<const pickle::StridedElements> maker = nullptr;  // not stored row by row
};

struct FileStore::State {
  io::FileStamp stamp;
  io::Mapping mapping;
  std::vector<fs::path> paths;
  pickle::TorchFile file;
  std::map<std::string, FileTensor, std::less<>> tensors;
  std::int64_t left_out = 0;
  std::uint64_t total_bytes = 0;
};

FileStore::FileStore(std::unique_ptr<State> state) : state_(std::move(state)) {}
FileStore::FileStore(FileStore&&) noexcept = default;
FileStore& FileStore::operator=(FileStore&&) noexcept = default;
FileStore::~FileStore() = default;

Result<FileStore> FileStore::open(const fs::path& path, std::string_view key) {
  const std::string shown = io::printable_path(path);
  BV_TRY(opened, io::open_regular(path));
  auto state = std::make_unique<State>();
  state->stamp = opened.stamp;
  state->paths = {path};
  BV_TRY(mapping, io::Mapping::map(opened, path));
  state->mapping = std::move(mapping);
  BV_TRY(file, pickle::open_torch_file(state->mapping.bytes(), shown));
  state->file = std::move(file);
  BV_TRY(dict, pickle::state_dict_of(state->file, key));
  state->left_out = dict.left_out;
  for (const pickle::NamedTensor& one : dict.tensors) {
    FileTensor tensor{
        {one.name, one.tensor.dtype, one.tensor.shape}, one.tensor.begin, one.tensor.end};
    if (!one.tensor.strides.empty()) {
      tensor.maker = std::make_unique<pickle::StridedElements>(
          state->mapping.bytes().subspan(tensor.begin, tensor.end - tensor.begin),
          bytes(one.tensor.dtype), one.tensor.shape, one.tensor.strides);
    }
    state->total_bytes += tensor_bytes(tensor.spec);
    state->tensors.try_emplace(one.name, std::move(tensor));
  }
  return FileStore(std::move(state));
}

const TensorSpec* FileStore::find(std::string_view tensor) const {
  const auto found = state_->tensors.find(tensor);
  return found == state_->tensors.end() ? nullptr : &found->second.spec;
}

Headers FileStore::headers() const {
  Headers out;
  for (const auto& [name, tensor] : state_->tensors) {
    out.emplace_hint(out.end(), name, tensor.spec);
  }
  return out;
}

std::vector<io::Chunk> FileStore::chunks(const TensorSpec& tensor) const {
  const FileTensor& found = state_->tensors.find(tensor.name)->second;
  return {{Shape(found.spec.shape.size(), 0), found.spec.shape,
           state_->mapping.bytes().subspan(found.begin, found.end - found.begin),
           found.maker.get()}};
}

const std::vector<fs::path>& FileStore::files() const {
  return state_->paths;
}
std::uint64_t FileStore::total_bytes() const {
  return state_->total_bytes;
}
std::int64_t FileStore::left_out() const {
  return state_->left_out;
}
Status FileStore::unchanged() const {
  return io::check_unchanged(state_->paths.front(), state_->stamp);
}
void FileStore::release(std::span<const std::byte> range) const {
  state_->mapping.release(range);
}

std::optional<std::int64_t> FileStore::argument(std::string_view name) const {
  const pickle::Pickle& pickle = state_->file.pickle;
  const auto arguments = pickle::value_of(pickle, pickle.root(), "args");
  const auto found = arguments ? pickle.attribute(*arguments, name) : std::nullopt;
  return found ? pickle.number(*found) : std::nullopt;
}

Status FileStore::check_sums() const {
  constexpr std::size_t kPiece = std::size_t{8} << 20;
  for (const pickle::Record& record : state_->file.archive.records()) {
    std::uint32_t sum = 0;
    auto left = state_->file.archive.bytes(record);
    while (!left.empty()) {
      const auto piece = left.first(std::min(left.size(), kPiece));
      sum = pickle::crc32(piece, sum);
      release(piece);
      left = left.subspan(piece.size());
    }
    if (sum != record.crc && record.size > 0) {
      const std::string shown = io::printable_path(state_->paths.front());
      return fail(Code::ZipInvalid, fmt::format("the checksum of {} in {} is wrong",
                                                io::in_quotes(record.name), shown))
          .at(shown)
          .advise("fetch the file anew, or save the checkpoint again");
    }
  }
  return Done{};
}

namespace {

/// The numbers of "mp_rank_01_002_003"; empty for another name.
std::vector<std::int64_t> ranks_in(std::string_view name) {
  constexpr std::string_view kPrefix = "mp_rank";
  std::vector<std::int64_t> out;
  if (!name.starts_with(kPrefix)) {
    return out;
  }
  for (std::size_t at = kPrefix.size(); at < name.size();) {
    const std::size_t end = std::min(name.find('_', at + 1), name.size());
    const std::string_view digits = name.substr(at + 1, end - at - 1);
    std::int64_t number = 0;
    const auto [stop, error] =
        std::from_chars(digits.data(), digits.data() + digits.size(), number);
    if (name[at] != '_' || digits.empty() || digits.size() > 6 || error != std::errc() ||
        stop != digits.data() + digits.size() || number < 0) {
      return {};
    }
    out.push_back(number);
    at = end;
  }
  return out.size() <= 3 ? out : std::vector<std::int64_t>{};
}

/// "model", also when there is none: the store then says what the file lacks.
Result<std::vector<std::string>> model_keys(const fs::path& path) {
  BV_TRY(opened, io::open_regular(path));
  BV_TRY(mapping, io::Mapping::map(opened, path));
  BV_TRY(file, pickle::open_torch_file(mapping.bytes(), io::printable_path(path)));
  const auto holds = [&](const std::string& key) {
    return pickle::value_of(file.pickle, file.pickle.root(), key).has_value();
  };
  std::vector<std::string> out;
  for (std::string key = "model0"; !holds("model") && holds(key);
       key = fmt::format("model{}", out.size())) {
    out.push_back(std::move(key));
  }
  return out.empty() ? std::vector<std::string>{"model"} : out;
}

/// In no order.
std::vector<LegacyFile> files_in(const fs::path& folder) {
  std::vector<LegacyFile> out;
  std::error_code error;
  fs::directory_iterator at(folder, error);
  for (; !error && at != fs::directory_iterator(); at.increment(error)) {
    const bool is_weights = at->path().extension() == ".safetensors";
    const auto ranks = ranks_in((is_weights ? at->path().stem() : at->path().filename()).string());
    const fs::path file = is_weights ? at->path() : at->path() / "model_optim_rng.pt";
    if (!ranks.empty() && io::has_entry(file)) {
      out.push_back({file, ranks[0], {ranks.begin() + 1, ranks.end()}});
    }
  }
  return out;
}

}  // namespace

Result<std::vector<FileStore>> open_models(const fs::path& path) {
  BV_TRY(keys, model_keys(path));
  std::vector<FileStore> out;
  for (const std::string& key : keys) {
    BV_TRY(store, FileStore::open(path, key));
    out.push_back(std::move(store));
  }
  return out;
}

std::vector<LegacyFile> legacy_files(const fs::path& folder) {
  std::vector<LegacyFile> out = files_in(folder);
  std::sort(out.begin(), out.end(), [](const LegacyFile& a, const LegacyFile& b) {
    return std::tie(a.tp, a.others) < std::tie(b.tp, b.others);
  });
  return out;
}

}  // namespace bv::torch_dist
