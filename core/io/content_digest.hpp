#pragma once
// One fingerprint over everything that the tensors of a checkpoint hold.

#include <string>

#include "core/base/progress.hpp"
#include "core/io/checkpoint.hpp"

namespace bv::io {

/// XXH3-128 over name, dtype, shape and bytes of every stored tensor, in the order of names: the
/// same however the tensors are spread over files. It finds changes; it is no signature. Reads
/// every byte once. Errors: Stopped.
[[nodiscard]] Result<std::string> content_digest(const Checkpoint& checkpoint, int jobs,
                                                 ProgressSink* progress = nullptr);

}  // namespace bv::io
