#pragma once
// XXH3-64 of every row of many tensors, in a table of bounded size.

#include <cstdint>
#include <memory>
#include <span>
#include <vector>

#include "core/base/result.hpp"
#include "core/compare/diff.hpp"
#include "core/compare/division.hpp"

namespace bv::compare {

struct RowPlace {
  std::uint32_t subject = 0;
  std::int64_t row = 0;
};

[[nodiscard]] std::uint64_t hash_row(std::span<const std::byte> row);

/// The same of a row that comes in pieces.
class RowHash {
 public:
  RowHash();
  ~RowHash();
  RowHash(const RowHash&) = delete;
  RowHash& operator=(const RowHash&) = delete;
  void add(std::span<const std::byte> piece);
  [[nodiscard]] std::uint64_t value() const;

 private:
  struct State;
  std::unique_ptr<State> state_;
};

/// Where rows of given content stand on the wanted side. When there are more rows than the table
/// may hold, rows are kept by their content (hash divisible by a power of two, the least that
/// leaves few enough), so that both sides of a lookup agree on which rows take part, in whichever
/// order they were added.
class RowTable {
 public:
  explicit RowTable(std::size_t rows_max) : rows_max_(rows_max) {}

  void add(std::uint64_t hash, RowPlace place);
  /// After the last add of all processes: the rows of all on each, and of these the ones that a
  /// table of all of them keeps. Null: there is one process. Errors: those of comm::exchanged.
  [[nodiscard]] Status settle(comm::Link* world = nullptr);
  [[nodiscard]] bool takes_part(std::uint64_t hash) const { return (hash & mask_) == 0; }
  /// Every place of that content.
  template <class Use>
  void for_each(std::uint64_t hash, const Use& use) const;
  [[nodiscard]] std::size_t size() const { return entries_.size(); }

 private:
  struct Entry {
    std::uint64_t hash = 0;
    std::uint32_t subject = 0;
    std::uint32_t row = 0;
    bool operator<(const Entry& other) const { return hash < other.hash; }
  };
  void thin();
  [[nodiscard]] Status take_from(comm::Link& world);
  std::size_t rows_max_ = 0;
  std::uint64_t mask_ = 0;
  std::vector<Entry> entries_;
};

template <class Use>
void RowTable::for_each(std::uint64_t hash, const Use& use) const {
  const Entry key{hash, 0, 0};
  const auto [begin, end] = std::equal_range(entries_.begin(), entries_.end(), key);
  constexpr std::ptrdiff_t kSameMax = 64;  // a row that stands everywhere says nothing
  if (end - begin > kSameMax) {
    return;
  }
  for (auto at = begin; at != end; ++at) {
    use(RowPlace{at->subject, at->row});
  }
}

/// What a subject would be in the type of the checkpoint as a whole (DiffOptions::own_dtype), where
/// that type holds its values: rows are compared in it.
[[nodiscard]] TensorSpec as_stored(const Subject& subject, const DiffOptions& options);

/// Hashes the rows of every subject whose rows have one of these sizes (bytes, ascending). Vectors
/// take part as one row. Errors: Stopped; those of RowTable::settle.
[[nodiscard]] Result<RowTable> hash_rows(const Comparison& comparison,
                                         const std::vector<ByteOffset>& row_bytes,
                                         const DiffOptions& options, const Division& division);

/// The rows of units that the table counts: as rows_of, but a vector is one row.
[[nodiscard]] RowShape table_rows_of(const TensorSpec& spec);
/// Bytes of one of them.
[[nodiscard]] ByteOffset table_row_bytes(const TensorSpec& spec);

}  // namespace bv::compare
