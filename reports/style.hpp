#pragma once
// How text is dressed: colour never carries meaning alone.

#include <cstddef>
#include <string>
#include <string_view>

namespace bv::reports {

struct TextStyle {
  bool color = false;
  bool ascii = false;
  int width = 100;
  int verbosity = 0;          // -2 nothing, -1 refuted and last line, 1 each rule, 2 each verdict
  bool person = false;        // a terminal: the last line leaves out counts of zero
  bool header = true;         // false when the header was printed before the work began
  bool reports_lost = false;  // no line that says where the reports are
  std::size_t told = 0;       // so many input errors, the last ones, were shown elsewhere
};

enum class Paint { Green, Red, Yellow, Magenta, Dim, Bold };
/// `text` in a colour, or as it is when the style has none.
[[nodiscard]] std::string painted(std::string_view text, Paint paint, const TextStyle& style);

}  // namespace bv::reports
