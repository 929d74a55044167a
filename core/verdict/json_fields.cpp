#include "core/verdict/json_fields.hpp"

#include <fmt/format.h>

#include "core/base/text.hpp"

namespace bv {

void Fields::refuse(const std::string& path, const Json* found, std::string_view wanted) {
  if (fault_) {
    return;
  }
  const std::string has =
      found == nullptr
          ? "nothing"
          : escaped(found->dump(-1, ' ', true, Json::error_handler_t::replace).substr(0, 60));
  fault_ = fail(Code::VerdictsInvalid, fmt::format("{} has no usable {}", file_, path))
               .at(file_)
               .pair(has, std::string(wanted))
               .advise("write the file again with --out or --json of this version");
}

}  // namespace bv
