#pragma once
// Names that a file of a checkpoint states for another one.

#include <string>

namespace bv::torch_dist {

/// True for a name that no file of the folder can have. By the name alone: files are not looked at.
[[nodiscard]] bool leads_out(const std::string& name);

}  // namespace bv::torch_dist
