#include "core/pickle/tensors.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <array>

#include "core/base/arith.hpp"
#include "core/base/text.hpp"
#include "core/pickle/crc32.hpp"

namespace bv::pickle {
namespace {

constexpr std::size_t kDimensionsMax = 64;
constexpr std::uint64_t kPickleBytesMax = std::uint64_t{1} << 30;
constexpr std::string_view kUntyped = "torch.storage.UntypedStorage";

struct Storage {
  std::string_view name;
  DType dtype;
};
constexpr std::array kStorages = {
    Storage{"torch.DoubleStorage", DType::F64},      Storage{"torch.FloatStorage", DType::F32},
    Storage{"torch.HalfStorage", DType::F16},        Storage{"torch.BFloat16Storage", DType::BF16},
    Storage{"torch.LongStorage", DType::I64},        Storage{"torch.IntStorage", DType::I32},
    Storage{"torch.ShortStorage", DType::I16},       Storage{"torch.CharStorage", DType::I8},
    Storage{"torch.ByteStorage", DType::U8},         Storage{"torch.BoolStorage", DType::Bool},
    Storage{"torch.ComplexFloatStorage", DType::C64}};

constexpr std::array kTypes = {Storage{"float64", DType::F64},
                               Storage{"float32", DType::F32},
                               Storage{"float16", DType::F16},
                               Storage{"bfloat16", DType::BF16},
                               Storage{"int64", DType::I64},
                               Storage{"int32", DType::I32},
                               Storage{"int16", DType::I16},
                               Storage{"int8", DType::I8},
                               Storage{"uint8", DType::U8},
                               Storage{"bool", DType::Bool},
                               Storage{"complex64", DType::C64},
                               Storage{"uint16", DType::U16},
                               Storage{"uint32", DType::U32},
                               Storage{"uint64", DType::U64},
                               Storage{"float8_e4m3fn", DType::F8E4M3},
                               Storage{"float8_e5m2", DType::F8E5M2},
                               Storage{"float8_e8m0fnu", DType::F8E8M0},
                               Storage{"float8_e4m3fnuz", DType::F8E4M3FNUZ},
                               Storage{"float8_e5m2fnuz", DType::F8E5M2FNUZ}};

constexpr std::array kGlobals = {
    Allowed{"torch._utils", "_rebuild_tensor"},
    Allowed{"torch._utils", "_rebuild_tensor_v2"},
    Allowed{"torch._utils", "_rebuild_tensor_v3"},
    Allowed{"torch._utils", "_rebuild_parameter"},
    Allowed{"torch", "DoubleStorage"},
    Allowed{"torch", "FloatStorage"},
    Allowed{"torch", "HalfStorage"},
    Allowed{"torch", "BFloat16Storage"},
    Allowed{"torch", "LongStorage"},
    Allowed{"torch", "IntStorage"},
    Allowed{"torch", "ShortStorage"},
    Allowed{"torch", "CharStorage"},
    Allowed{"torch", "ByteStorage"},
    Allowed{"torch", "BoolStorage"},
    Allowed{"torch", "ComplexFloatStorage"},
    Allowed{"torch.storage", "UntypedStorage"},
    Allowed{"torch", "Size"},
    Allowed{"torch", "float64"},
    Allowed{"torch", "float32"},
    Allowed{"torch", "float16"},
    Allowed{"torch", "bfloat16"},
    Allowed{"torch", "int64"},
    Allowed{"torch", "int32"},
    Allowed{"torch", "int16"},
    Allowed{"torch", "int8"},
    Allowed{"torch", "uint8"},
    Allowed{"torch", "uint16"},
    Allowed{"torch", "uint32"},
    Allowed{"torch", "uint64"},
    Allowed{"torch", "bool"},
    Allowed{"torch", "complex64"},
    Allowed{"torch", "float8_e4m3fn"},
    Allowed{"torch", "float8_e5m2"},
    Allowed{"torch", "float8_e8m0fnu"},
    Allowed{"torch", "float8_e4m3fnuz"},
    Allowed{"torch", "float8_e5m2fnuz"},
    Allowed{"torch", "device"},
    Allowed{"collections", "OrderedDict"},
    Allowed{"collections", "defaultdict"},
    Allowed{"builtins", "dict"},
    Allowed{"builtins", "list"},
    Allowed{"builtins", "set"},
    // What Megatron-LM keeps beside the weights: arguments of the run, never looked into.
    Allowed{"argparse", "Namespace"},
    Allowed{"types", "SimpleNamespace"},
    Allowed{"signal", "Signals"},
    Allowed{"pathlib", "PosixPath"},
    Allowed{"pathlib._local", "PosixPath"},
    Allowed{"_io", "BytesIO"},
    Allowed{"_codecs", "encode"},
    Allowed{"numpy.core.multiarray", "_reconstruct"},
    Allowed{"numpy._core.multiarray", "_reconstruct"},
    Allowed{"numpy", "ndarray"},
    Allowed{"numpy", "dtype"},
    Allowed{"megatron.core.enums", "ModelType"},
    Allowed{"megatron.core.transformer.enums", "*"},
    Allowed{"megatron.core.rerun_state_machine", "*"},
};

Error refuse(const TorchFile& file, const std::string& what) {
  return fail(Code::PickleInvalid, fmt::format("{}: {}", file.file, what))
      .at(file.file)
      .advise("save the tensors again, dense and on the CPU");
}

/// A storage as a tensor names it.
struct StorageUse {
  std::string type;
  const Record* record = nullptr;
  std::int64_t elements = 0;
};

Result<StorageUse> storage_of(const TorchFile& file, Id id) {
  const Pickle& pickle = file.pickle;
  const auto named = pickle.persistent(id);
  const auto parts = named ? pickle.items(*named) : std::span<const Id>();
  if (parts.size() != 5 || pickle.text(parts[0]) != "storage") {
    return refuse(file, "a tensor has no storage");
  }
  StorageUse out;
  out.type = pickle.global(parts[1]);
  const auto key = pickle.text(parts[2]);
  const auto elements = pickle.number(parts[4]);
  if (!key || !elements || *elements < 0) {
    return refuse(file, "a storage has no key or no size");
  }
  out.elements = *elements;
  out.record = file.archive.find("data/" + std::string(*key));
  if (out.record == nullptr) {
    return refuse(file,
                  fmt::format("storage {} is not in the archive", escaped(bounded(*key, 80))));
  }
  return out;
}

std::optional<DType> dtype_of_storage(std::string_view name) {
  const auto* const found = std::find_if(kStorages.begin(), kStorages.end(),
                                         [name](const Storage& one) { return one.name == name; });
  return found == kStorages.end() ? std::nullopt : std::optional(found->dtype);
}

bool is_dense(const Shape& shape, const std::vector<std::int64_t>& strides) {
  std::int64_t wanted = 1;
  for (std::size_t i = shape.size(); i-- > 0;) {
    if (shape[i] != 1 && strides[i] != wanted) {
      return false;
    }
    wanted *= shape[i];
  }
  return true;
}

/// How many elements of the storage a tensor reaches over, from its first one on; nullopt above
/// 2^63 or for a stride that leads back.
std::optional<std::int64_t> reach_of(const Shape& shape, const std::vector<std::int64_t>& strides) {
  std::optional<std::int64_t> out = 1;
  for (std::size_t i = 0; i < shape.size() && out; ++i) {
    const auto step = strides[i] < 0 ? std::nullopt : checked_mul(shape[i] - 1, strides[i]);
    out = step ? checked_add(*out, *step) : std::nullopt;
  }
  return out;
}

/// What torch does to the stored elements when it loads them: bits that it keeps beside a tensor,
/// in the last argument. Elements are read as they are stored, so that none may be set.
Status check_bits(const TorchFile& file, std::span<const Id> arguments, std::size_t at) {
  const Pickle& pickle = file.pickle;
  if (arguments.size() > at + 1) {
    return refuse(file, fmt::format("a tensor has {} arguments, and at most {} are known",
                                    arguments.size(), at + 1));
  }
  if (arguments.size() <= at || pickle.kind(arguments[at]) == Kind::None) {
    return Done{};
  }
  const auto entries = pickle.items(arguments[at]);
  if (pickle.kind(arguments[at]) != Kind::Dict) {
    return refuse(file, "a tensor has metadata that is not a dict");
  }
  for (std::size_t i = 0; i + 1 < entries.size(); i += 2) {
    if (pickle.kind(entries[i + 1]) == Kind::None || pickle.number(entries[i + 1]) == 0) {
      continue;
    }
    const std::string_view name = pickle.text(entries[i]).value_or("?");
    Error error =
        name == "neg"
            ? refuse(file,
                     "a tensor has the negative bit: torch loads the negatives of what is "
                     "stored")
        : name == "conj"
            ? refuse(file,
                     "a tensor has the conjugate bit: torch loads the conjugates of what is "
                     "stored")
            : refuse(file, fmt::format("a tensor has the unknown metadata \"{}\"",
                                       escaped(bounded(name, 80))));
    error.help = "save tensor.resolve_neg().resolve_conj().contiguous() of each tensor";
    return error;
  }
  return Done{};
}

/// The arguments of _rebuild_tensor in all its versions: storage, offset, size, strides, ...
Result<ArchiveTensor> rebuilt(const TorchFile& file, std::span<const Id> arguments, bool typed) {
  const Pickle& pickle = file.pickle;
  if (arguments.size() < (typed ? 7U : 4U)) {
    return refuse(file, "a tensor has too few arguments");
  }
  constexpr std::size_t kMetadata = 6;  // behind the type, where there is one
  BV_CHECK(check_bits(file, arguments, typed ? kMetadata + 1 : kMetadata));
  BV_TRY(storage, storage_of(file, arguments[0]));
  const auto offset = pickle.number(arguments[1]);
  const auto shape = pickle.numbers(arguments[2]);
  const auto strides = pickle.numbers(arguments[3]);
  if (!offset || *offset < 0 || !shape || !strides || shape->size() != strides->size() ||
      shape->size() > kDimensionsMax ||
      std::any_of(shape->begin(), shape->end(), [](std::int64_t one) { return one < 0; })) {
    return refuse(file, "a tensor has no size, strides or offset");
  }
  const std::string type = typed ? pickle.global(arguments[6]) : "";
  const auto dtype = typed ? dtype_named(std::string_view(type).substr(std::min<std::size_t>(
                                 type.size(), std::string_view("torch.").size())))
                           : dtype_of_storage(storage.type);
  if (!dtype || (typed && storage.type != kUntyped)) {
    return fail(Code::DtypeUnknown, fmt::format("{}: a tensor is of type {}", file.file,
                                                escaped(typed ? type : storage.type)))
        .at(file.file)
        .advise("save it in a type that safetensors has");
  }
  const std::int64_t count = element_count(*shape).value_or(-1);
  const bool dense = count == 0 || (count > 0 && is_dense(*shape, *strides));
  const std::int64_t reach = dense || count < 0 ? count : reach_of(*shape, *strides).value_or(-1);
  const auto last = reach < 0 ? std::nullopt : checked_add(*offset, reach);
  const auto size = static_cast<std::uint64_t>(bytes(*dtype));
  const std::int64_t held =
      typed ? storage.elements / static_cast<std::int64_t>(size) : storage.elements;
  if (!last || *last > held || storage.record->size / size < static_cast<std::uint64_t>(held)) {
    return refuse(file, fmt::format("a tensor of shape {} is larger than its storage",
                                    shape_text(*shape)))
        .pair(fmt::format("{} bytes in {}", storage.record->size, escaped(storage.record->name)),
              dense ? fmt::format("{} elements of {} bytes", held, size)
                    : fmt::format("{} elements of {} bytes for strides {}", held, size,
                                  shape_text(*strides)));
  }
  ArchiveTensor out{*dtype, *shape, 0, 0, storage.record, dense ? Shape() : *strides};
  out.begin = storage.record->begin + static_cast<std::uint64_t>(*offset) * size;
  out.end = out.begin + static_cast<std::uint64_t>(reach) * size;
  return out;
}

constexpr std::string_view kParameter = "torch._utils._rebuild_parameter";
constexpr std::string_view kTyped = "torch._utils._rebuild_tensor_v3";

bool is_plain_tensor(std::string_view callee) {
  return callee == "torch._utils._rebuild_tensor" || callee == "torch._utils._rebuild_tensor_v2" ||
         callee == kTyped;
}

/// The tensor inside a parameter; other values are themselves.
Id unwrapped(const Pickle& pickle, Id id) {
  if (pickle.callee(id) != kParameter) {
    return id;
  }
  const auto arguments = pickle.items(*pickle.arguments(id));
  return arguments.empty() ? id : arguments[0];
}

}  // namespace

bool may_repeat(const ArchiveTensor& tensor) {
  std::vector<std::pair<std::int64_t, std::int64_t>> axes;  // stride, extent
  for (std::size_t i = 0; i < tensor.strides.size(); ++i) {
    if (tensor.shape[i] > 1) {
      axes.emplace_back(tensor.strides[i], tensor.shape[i]);
    }
  }
  std::sort(axes.begin(), axes.end());
  std::int64_t reach = 1;  // what the axes before lie in
  for (const auto& [stride, extent] : axes) {
    if (stride < reach) {
      return true;
    }
    reach += (extent - 1) * stride;
  }
  return false;
}

std::span<const Allowed> tensor_globals() {
  return kGlobals;
}

std::optional<DType> dtype_named(std::string_view torch_name) {
  const auto* const found =
      std::find_if(kTypes.begin(), kTypes.end(),
                   [torch_name](const Storage& one) { return one.name == torch_name; });
  return found == kTypes.end() ? std::nullopt : std::optional(found->dtype);
}

Result<TorchFile> open_torch_file(std::span<const std::byte> bytes, const std::string& file) {
  TorchFile out;
  out.file = file;
  BV_TRY(archive, Archive::open(bytes, file));
  out.archive = std::move(archive);
  const Record* const pickle = out.archive.find("data.pkl");
  if (pickle == nullptr || pickle->size > kPickleBytesMax) {
    return refuse(out, pickle == nullptr ? "the archive has no data.pkl"
                                         : fmt::format("data.pkl has {} bytes", pickle->size));
  }
  if (out.archive.find("version") == nullptr && out.archive.find(".data/version") == nullptr) {
    return refuse(out, "the archive has no version");
  }
  const Record* const order = out.archive.find("byteorder");
  const auto order_bytes =
      order == nullptr ? std::span<const std::byte>() : out.archive.bytes(*order);
  const std::string_view order_text(reinterpret_cast<const char*>(order_bytes.data()),
                                    order_bytes.size());
  if (order != nullptr && order_text != "little") {
    return refuse(out, "its numbers are not little-endian");
  }
  const auto text = out.archive.bytes(*pickle);
  if (crc32(text) != pickle->crc) {
    return fail(Code::ZipInvalid, fmt::format("{}: the checksum of data.pkl is wrong", file))
        .at(file)
        .pair(fmt::format("{:08x}", crc32(text)), fmt::format("{:08x}", pickle->crc))
        .advise("fetch the file anew, or save the checkpoint again");
  }
  BV_TRY(read, Pickle::read(text, tensor_globals(), file));
  out.pickle = std::move(read);
  return out;
}

bool is_tensor(const Pickle& pickle, Id id) {
  return is_plain_tensor(pickle.callee(unwrapped(pickle, id)));
}

Result<ArchiveTensor> tensor_of(const TorchFile& file, Id id) {
  const Id tensor = unwrapped(file.pickle, id);
  const std::string callee = file.pickle.callee(tensor);
  if (!is_plain_tensor(callee)) {
    return refuse(file, "a value is not a tensor");
  }
  if (!file.pickle.states(tensor).empty()) {  // __setstate__ could put anything in its place
    return refuse(file, "a tensor is given another state");
  }
  return rebuilt(file, file.pickle.items(*file.pickle.arguments(tensor)), callee == kTyped);
}

}  // namespace bv::pickle
