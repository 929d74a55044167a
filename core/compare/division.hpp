#pragma once
// A comparison that the processes of a world do together: each its part, and all know the whole.

#include <cstddef>
#include <functional>
#include <span>
#include <string>
#include <vector>

#include "core/compare/diff.hpp"

namespace bv::compare {

class Division {
 public:
  /// All call it with the same comparison. Without a world everything is this process's. Errors:
  /// RankDiverged when one compares something else, or reads other bytes than rank 0 of what it is
  /// to compare; those of Link::receive.
  static Result<Division> make(const Comparison& comparison, const DiffOptions& options);

  /// Subjects that this process compares, in order.
  [[nodiscard]] const std::vector<std::size_t>& mine() const { return mine_; }
  /// Which of these this process explains.
  [[nodiscard]] std::vector<std::size_t> mine_of(std::span<Difference* const> differences) const;
  /// What follows tells how far it is, or does not (Link::work_untold).
  void tells_progress(bool tells) const;
  /// Before anything is explained, which may read any tensor: errors as of `make`.
  [[nodiscard]] Status agree_on_all() const;

  /// What all processes found, on all. Errors: those of comm::exchanged.
  [[nodiscard]] Status unite(DiffReport& report) const;
  /// The same of explanations: this process made those of `mine`.
  [[nodiscard]] Status unite(std::span<Difference* const> differences,
                             std::span<const std::size_t> mine) const;

 private:
  Division(const Comparison& comparison, const DiffOptions& options)
      : comparison_(comparison), options_(options) {}
  [[nodiscard]] Status agree() const;
  [[nodiscard]] Status agree_on_contents(const std::function<std::vector<int>(std::size_t)>& who,
                                         bool strays) const;

  const Comparison& comparison_;
  const DiffOptions& options_;
  std::vector<int> processes_;  // of each subject
  std::vector<std::size_t> mine_;
};

/// A difference in texts, and back; what does not belong to one leaves `at` beyond the end.
[[nodiscard]] std::vector<std::string> as_texts(const Difference& difference);
[[nodiscard]] Difference difference_from(std::span<const std::string> texts, std::size_t& at);

}  // namespace bv::compare
