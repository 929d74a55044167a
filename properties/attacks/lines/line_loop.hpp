#pragma once
// Random lines of notation without end: a line is drawn and proved for all sizes, then sizes are
// drawn and the line is run on them.

#include <optional>
#include <vector>

#include "properties/attacks/generators/lines.hpp"
#include "properties/attacks/lines/line_run.hpp"

namespace bv::lines {

/// A line on sizes, as it is saved.
struct SavedLine {
  layout::Rule rule;
  layout::Binding binding;
  std::size_t element_bytes = 2;
};
[[nodiscard]] std::string to_text(const SavedLine& line);
/// Errors: BadValue naming the file; RulesInvalid for a line that does not parse.
[[nodiscard]] Result<SavedLine> line_from_text(std::string_view text, const std::string& file);

/// Proof on the text, binding, and the run. Errors: those of each.
[[nodiscard]] Status check(LineRunner& runner, const SavedLine& line);

/// A failed case, shrunk.
struct LineFault {
  generators::Line description;
  SavedLine line;
  Error error;
};

/// Of eight cases of a line, how many have small sizes but one: most faults show there, and a case
/// costs two thirds (tests/properties/line_faults_test.cpp counts cases until faults are seen).
inline constexpr std::uint64_t kSmallOfEight = 7;

class LineLoop {
 public:
  explicit LineLoop(std::uint64_t seed, std::uint64_t small_of_eight = kSmallOfEight);

  /// Runs one case. Returns what failed, shrunk to its least case.
  [[nodiscard]] std::optional<LineFault> next();
  /// The same without shrinking: did it fail?
  [[nodiscard]] bool fails_next() { return !draw_and_run(); }

  [[nodiscard]] LineRunner& runner() { return runner_; }
  [[nodiscard]] std::int64_t cases() const { return cases_; }
  [[nodiscard]] std::int64_t lines() const { return lines_; }

 private:
  static constexpr std::int64_t kSizesOfALine = 64;

  Status draw_and_run();
  Status run();

  generators::Random random_;
  std::uint64_t small_of_eight_;
  std::vector<const generators::Field<generators::Line>*> size_fields_;
  LineRunner runner_;
  generators::Line description_;
  std::size_t element_bytes_ = 1;
  layout::Rule rule_;
  bool copied_ = false;                     // the line declares copies
  layout::Binding binding_;                 // of the line, on the sizes of the last case
  std::optional<layout::BoundRule> bound_;  // empty before the first case of a line
  std::int64_t cases_ = 0;
  std::int64_t lines_ = 0;
};

/// The least description that still fails with these bytes an element.
[[nodiscard]] generators::Line shrink(LineRunner& runner, const generators::Line& from,
                                      std::size_t element_bytes);

}  // namespace bv::lines
