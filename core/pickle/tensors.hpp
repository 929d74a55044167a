#pragma once
// Tensors of a torch.save archive: a pickle that says how they look, and their bytes as records.

#include <cstdint>
#include <optional>
#include <string>

#include "core/base/dtype.hpp"
#include "core/base/result.hpp"
#include "core/base/tensor_spec.hpp"
#include "core/pickle/pickle.hpp"
#include "core/pickle/zip.hpp"

namespace bv::pickle {

/// Globals of state dicts: tensors, their storages and the containers around them.
[[nodiscard]] std::span<const Allowed> tensor_globals();

/// The type that torch names so ("bfloat16"); nullopt for one that no safetensors file has.
[[nodiscard]] std::optional<DType> dtype_named(std::string_view torch_name);

/// A tensor whose elements are in bytes [begin, end) of the archive, in `record`: one behind the
/// other, row by row, unless it has strides.
struct ArchiveTensor {
  DType dtype = DType::F32;
  Shape shape;
  std::uint64_t begin = 0;
  std::uint64_t end = 0;
  const Record* record = nullptr;
  Shape strides = {};  // in elements, none negative; empty for a dense tensor
};

/// May one stored element be several of the tensor (expand, overlapping windows)? True where the
/// strides alone do not rule it out.
[[nodiscard]] bool may_repeat(const ArchiveTensor& tensor);

/// An archive with its pickle.
struct TorchFile {
  Archive archive;
  Pickle pickle;
  std::string file;  // for messages
};
/// `bytes` must outlive the result. Errors: ZipInvalid, PickleInvalid, PickleGlobal; PickleInvalid
/// for an archive of big-endian numbers or without a pickle or version.
[[nodiscard]] Result<TorchFile> open_torch_file(std::span<const std::byte> bytes,
                                                const std::string& file);

/// Is the value a tensor, or a parameter around one?
[[nodiscard]] bool is_tensor(const Pickle& pickle, Id id);
/// The tensor that a value of the pickle is. Errors: PickleInvalid for what is no tensor, or one
/// whose storage, size, strides or type do not fit the record, or whose elements torch changes when
/// it loads them (the negative and the conjugate bit, metadata that is not known).
[[nodiscard]] Result<ArchiveTensor> tensor_of(const TorchFile& file, Id id);

}  // namespace bv::pickle
