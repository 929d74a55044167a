#pragma once
// The tensors that a file of torch.save holds by name: a state dict, or a dict in the saved object.

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "core/base/result.hpp"
#include "core/pickle/tensors.hpp"

namespace bv::pickle {

struct NamedTensor {
  std::string name;
  ArchiveTensor tensor;
};

struct StateDict {
  std::vector<NamedTensor> tensors;  // in the order of the dict
  std::int64_t left_out = 0;         // entries that are no tensors, and extra states
};

/// The value of a key of a dict or an OrderedDict; nullopt when there is none.
[[nodiscard]] std::optional<Id> value_of(const Pickle& pickle, Id dict, std::string_view key);

/// The dict that the file holds, or the one under `key` in it. Errors: PickleInvalid when there is
/// no such dict, a tensor of it cannot be read, or tensors that repeat stored elements come to more
/// than 1 GiB; DtypeUnknown, DuplicateKey.
[[nodiscard]] Result<StateDict> state_dict_of(const TorchFile& file, std::string_view key = "");

}  // namespace bv::pickle
