#pragma once
// Weights that torch.save wrote (pytorch_model.bin): the pickle says where the bytes of each tensor
// lie, and is read as data; nothing of it is run.

#include <cstddef>
#include <filesystem>
#include <span>
#include <string>
#include <string_view>

#include "core/base/result.hpp"
#include "core/io/checkpoint.hpp"

namespace bv::io {

/// *.bin, *.pt and *.pth.
[[nodiscard]] bool is_torch_name(std::string_view name);

/// The name that the weights of a torch file get as safetensors: "model-00001-of-00002.safetensors"
/// for "pytorch_model-00001-of-00002.bin". A name of safetensors stays as it is.
[[nodiscard]] std::string safetensors_name(const std::string& name);
/// The same of an index: "model.safetensors.index.json" for "pytorch_model.bin.index.json".
[[nodiscard]] std::string safetensors_index_name(const std::string& name);

/// The tensors of the state dict in `bytes`, a whole file, as a safetensors header would list them.
/// Several may share bytes: torch stores tied weights once. What is no tensor is left out, with a
/// finding. Errors: NotSafetensors for a file that is no archive (torch before 1.6 wrote those),
/// ZipInvalid, PickleInvalid, PickleGlobal, DtypeUnknown, DuplicateKey.
[[nodiscard]] Result<SafetensorsHeader> torch_header(std::span<const std::byte> bytes,
                                                     const std::filesystem::path& path);

}  // namespace bv::io
