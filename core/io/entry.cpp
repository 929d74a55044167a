#include "core/io/entry.hpp"

#include <system_error>

namespace bv::io {
namespace fs = std::filesystem;

bool has_entry(const fs::path& path) {
  std::error_code ignored;
  return fs::symlink_status(path, ignored).type() != fs::file_type::not_found;
}

}  // namespace bv::io
