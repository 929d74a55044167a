#pragma once
// The files of reports/html, embedded when bridge-verify is built.

#include <string_view>

namespace bv::reports {

[[nodiscard]] std::string_view html_page();  // with @TITLE@, @STYLE@, @STATIC@, @DATA@, @SCRIPT@
[[nodiscard]] std::string_view html_style();
[[nodiscard]] std::string_view html_script();  // the scripts in their order

}  // namespace bv::reports
