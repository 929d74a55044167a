#include "core/torch_dist/metadata.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <array>

#include "core/io/fault_text.hpp"
#include "core/pickle/pickle.hpp"
#include "core/pickle/tensors.hpp"

namespace bv::torch_dist {
namespace {

using pickle::Allowed;
using pickle::Id;
using pickle::Kind;
using pickle::Pickle;

constexpr std::string_view kMeta = "torch.distributed.checkpoint.metadata";
constexpr std::string_view kOldMeta = "torch.distributed._shard.sharded_tensor.metadata";
constexpr std::string_view kFiles = "torch.distributed.checkpoint.filesystem";
constexpr std::string_view kPlanner = "torch.distributed.checkpoint.planner";
constexpr std::string_view kMegatron = "megatron.core.dist_checkpointing.strategies.torch";

constexpr std::array kGlobals = {
    Allowed{kMeta, "Metadata"},
    Allowed{kMeta, "TensorStorageMetadata"},
    Allowed{kMeta, "BytesStorageMetadata"},
    Allowed{kMeta, "ChunkStorageMetadata"},
    Allowed{kMeta, "TensorProperties"},
    Allowed{kMeta, "_MEM_FORMAT_ENCODING"},
    Allowed{kMeta, "MetadataIndex"},
    Allowed{kMeta, "StorageMeta"},
    Allowed{kOldMeta, "TensorProperties"},
    Allowed{kOldMeta, "MEM_FORMAT_ENCODING"},
    Allowed{kOldMeta, "_MEM_FORMAT_ENCODING"},
    Allowed{kFiles, "_StorageInfo"},
    Allowed{kFiles, "_StoragePrefix"},
    Allowed{kPlanner, "SavePlan"},
    Allowed{kPlanner, "WriteItem"},
    Allowed{kPlanner, "WriteItemType"},
    Allowed{kPlanner, "TensorWriteData"},
    Allowed{kPlanner, "BytesIOWriteData"},
    Allowed{kMegatron, "MCoreSavePlan"},
    Allowed{kMegatron, "MCoreMetadata"},
    Allowed{"torch.serialization", "_get_layout"},
    Allowed{"pathlib", "WindowsPath"},
    Allowed{"pathlib", "PurePosixPath"},
};

std::vector<Allowed> all_globals() {
  std::vector<Allowed> out(kGlobals.begin(), kGlobals.end());
  const auto more = pickle::tensor_globals();
  out.insert(out.end(), more.begin(), more.end());
  return out;
}

/// A chunk by its tensor and where it begins.
using Key = std::pair<std::string_view, Shape>;

class Reader {
 public:
  Reader(const Pickle& pickle, const std::string& file) : pickle_(pickle), file_(file) {}

  Result<Metadata> read() {
    const Id root = pickle_.root();
    const std::string callee = pickle_.callee(root);
    if (callee != std::string(kMeta) + ".Metadata" &&
        callee != std::string(kMegatron) + ".MCoreMetadata") {
      return refuse("it does not hold the metadata of a checkpoint");
    }
    const auto tensors = pickle_.attribute(root, "state_dict_metadata");
    const auto storage = pickle_.attribute(root, "storage_data");
    if (!tensors || !storage || pickle_.kind(*tensors) != Kind::Dict ||
        pickle_.kind(*storage) != Kind::Dict) {
      return refuse("it lists no tensors or no storage");
    }
    BV_CHECK(read_slices(*storage));
    const auto entries = pickle_.items(*tensors);
    for (std::size_t i = 0; i + 1 < entries.size(); i += 2) {
      BV_CHECK(read_entry(entries[i], entries[i + 1]));
    }
    return std::move(out_);
  }

 private:
  [[nodiscard]] Error refuse(const std::string& what) const {
    return fail(Code::DistMetadataInvalid, fmt::format("{} cannot be used: {}", file_, what))
        .at(file_)
        .advise("use another iteration of the checkpoint, or save it again");
  }

  /// storage_data: a dict of MetadataIndex to _StorageInfo.
  Status read_slices(Id storage) {
    const auto entries = pickle_.items(storage);
    for (std::size_t i = 0; i + 1 < entries.size(); i += 2) {
      const auto name = text_of(entries[i], "fqn");
      const auto path = text_of(entries[i + 1], "relative_path");
      const auto offset = number_of(entries[i + 1], "offset");
      const auto length = number_of(entries[i + 1], "length");
      if (!name || !path || !offset || !length || *offset < 0 || *length < 0) {
        return refuse("an entry of storage_data has no name, path, offset or length");
      }
      if (const auto how = pickle_.attribute(entries[i + 1], "transform_descriptors");
          how && pickle_.kind(*how) != Kind::None && !pickle_.items(*how).empty()) {
        return refuse(fmt::format("{} is stored transformed", io::in_quotes(*name)));
      }
      const auto begin = pickle_.attribute(entries[i], "offset");
      const auto origin = begin ? pickle_.numbers(*begin) : std::nullopt;
      const Slice slice{std::string(*path), static_cast<std::uint64_t>(*offset),
                        static_cast<std::uint64_t>(*length)};
      if (!slices_.try_emplace({*name, origin.value_or(Shape{-1})}, slice).second) {
        return refuse(fmt::format("a chunk of {} is stored twice", io::in_quotes(*name)));
      }
    }
    return Done{};
  }

  Status read_entry(Id key, Id value) {
    const auto name = pickle_.kind(key) == Kind::Text ? pickle_.text(key) : std::nullopt;
    if (!name) {
      return refuse("a tensor has no name");
    }
    const std::string callee = pickle_.callee(value);
    if (callee == std::string(kMeta) + ".BytesStorageMetadata") {
      BV_TRY(slice, slice_of({*name, Shape{-1}}));
      return out_.objects.try_emplace(std::string(*name), std::move(slice)).second
                 ? Status(Done{})
                 : Status(twice(*name));
    }
    if (callee != std::string(kMeta) + ".TensorStorageMetadata") {
      return refuse(fmt::format("{} is neither a tensor nor an object", io::in_quotes(*name)));
    }
    StoredTensor tensor;
    tensor.spec.name = *name;
    BV_TRY(dtype, dtype_of(*name, value));
    tensor.spec.dtype = dtype;
    const auto shape = numbers_of(value, "size");
    const auto chunks = pickle_.attribute(value, "chunks");
    if (!shape || !chunks || pickle_.kind(*chunks) != Kind::List) {
      return refuse(fmt::format("{} has no size or no chunks", io::in_quotes(*name)));
    }
    tensor.spec.shape = *shape;
    BV_CHECK(read_chunks(*chunks, tensor));
    return out_.tensors.try_emplace(std::string(*name), std::move(tensor)).second
               ? Status(Done{})
               : Status(twice(*name));
  }

  [[nodiscard]] Error twice(std::string_view name) const {
    return refuse(fmt::format("{} is listed twice", io::in_quotes(name)));
  }

  Status read_chunks(Id chunks, StoredTensor& tensor) {
    std::vector<io::ChunkPlace> places;
    for (const Id chunk : pickle_.items(chunks)) {
      const auto origin = numbers_of(chunk, "offsets");
      const auto extent = numbers_of(chunk, "sizes");
      if (!origin || !extent) {
        return refuse(fmt::format("a chunk of {} has no place", io::in_quotes(tensor.spec.name)));
      }
      BV_TRY(slice, slice_of({tensor.spec.name, *origin}));
      places.push_back({*origin, *extent});
      tensor.chunks.push_back({places.back(), std::move(slice)});
    }
    return io::check_chunk_places(tensor.spec, places, file_);
  }

  /// TensorProperties have a tuple as their state, dtype first; older ones a dict.
  Result<DType> dtype_of(std::string_view name, Id tensor) {
    const auto properties = pickle_.attribute(tensor, "properties");
    std::string type;
    if (properties) {
      for (const Id state : pickle_.states(*properties)) {
        const auto named = pickle_.get(state, "dtype");
        const auto items = pickle_.items(state);
        type = named ? pickle_.global(*named) : items.empty() ? type : pickle_.global(items[0]);
      }
    }
    constexpr std::string_view kTorch = "torch.";
    const auto dtype = type.starts_with(kTorch)
                           ? pickle::dtype_named(std::string_view(type).substr(kTorch.size()))
                           : std::nullopt;
    if (!dtype) {
      return fail(Code::DtypeUnknown,
                  fmt::format("{} is of a type that is not read", io::in_quotes(name)))
          .at(file_)
          .pair(io::printable(type), "torch.bfloat16, torch.float32, ...")
          .advise("save it in a type that safetensors has");
    }
    return *dtype;
  }

  Result<Slice> slice_of(const Key& key) {
    const auto found = slices_.find(key);
    if (found == slices_.end()) {
      return refuse(fmt::format("a part of {} is stored nowhere", io::in_quotes(key.first)));
    }
    return found->second;
  }

  [[nodiscard]] std::optional<std::string_view> text_of(Id object, std::string_view name) const {
    const auto found = pickle_.attribute(object, name);
    return found && pickle_.kind(*found) == Kind::Text ? pickle_.text(*found) : std::nullopt;
  }
  [[nodiscard]] std::optional<std::int64_t> number_of(Id object, std::string_view name) const {
    const auto found = pickle_.attribute(object, name);
    return found && pickle_.kind(*found) == Kind::Int ? pickle_.number(*found) : std::nullopt;
  }
  [[nodiscard]] std::optional<Shape> numbers_of(Id object, std::string_view name) const {
    const auto found = pickle_.attribute(object, name);
    return found ? pickle_.numbers(*found) : std::nullopt;
  }

  const Pickle& pickle_;
  const std::string& file_;
  std::map<Key, Slice> slices_;
  Metadata out_;
};

}  // namespace

Result<Metadata> read_metadata(std::span<const std::byte> pickle, const std::string& file) {
  const std::vector<Allowed> globals = all_globals();
  BV_TRY(read, Pickle::read(pickle, globals, file));
  return Reader(read, file).read();
}

}  // namespace bv::torch_dist
