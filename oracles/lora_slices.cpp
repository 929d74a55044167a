#include "oracles/lora_slices.hpp"

#include <algorithm>
#include <numeric>

namespace bv::oracle {
namespace {

std::string of_rank(std::size_t rank) {
  return "the part of rank " + std::to_string(rank);
}

/// Rows [first, first + count) of a matrix.
SlicedMatrix rows_of(const SlicedMatrix& all, std::int64_t first, std::int64_t count,
                     std::int64_t size) {
  const auto row = static_cast<std::ptrdiff_t>(all.columns * size);
  return {count,
          all.columns,
          {all.bytes.begin() + first * row, all.bytes.begin() + (first + count) * row}};
}

bool equal(const SlicedMatrix& a, const SlicedMatrix& b) {
  return a.rows == b.rows && a.columns == b.columns && a.bytes == b.bytes;
}

SlicedMatrix below(const std::vector<const SlicedMatrix*>& parts) {
  SlicedMatrix out{0, parts.front()->columns, {}};
  for (const SlicedMatrix* part : parts) {
    out.rows += part->rows;
    out.bytes.insert(out.bytes.end(), part->bytes.begin(), part->bytes.end());
  }
  return out;
}

SlicedMatrix beside(const std::vector<const SlicedMatrix*>& parts, std::int64_t size) {
  SlicedMatrix out{parts.front()->rows, 0, {}};
  for (std::int64_t row = 0; row < out.rows; ++row) {
    for (const SlicedMatrix* part : parts) {
      const SlicedMatrix one = rows_of(*part, row, 1, size);
      out.bytes.insert(out.bytes.end(), one.bytes.begin(), one.bytes.end());
      out.columns += row == 0 ? part->columns : 0;
    }
  }
  return out;
}

std::string wrong_a(const SlicedMember& member, std::size_t slice) {
  std::vector<const SlicedMatrix*> parts;
  bool all_whole = true, same_rows = true;
  for (const auto& rank : member.a_parts) {
    const SlicedMatrix& part = rank[slice];
    parts.push_back(&part);
    all_whole = all_whole && part.rows == member.a.rows && part.columns == member.a.columns;
    same_rows = same_rows && part.rows == member.a.rows;
  }
  if (all_whole) {
    for (std::size_t rank = 0; rank < parts.size(); ++rank) {
      if (!equal(*parts[rank], member.a)) {
        return of_rank(rank) + " is not lora_A";
      }
    }
    return "";
  }
  const bool right =
      equal(same_rows ? beside(parts, member.element_bytes) : below(parts), member.a);
  return right ? "" : "the parts of all ranks together are not lora_A";
}

/// "3 to 6", for rows or columns.
std::string from_to(std::int64_t first, std::int64_t end) {
  return std::to_string(first) + " to " + std::to_string(end);
}

/// Row-parallel layers: the columns of a rank are those that its part of the base multiplies.
std::string wrong_columns(const SlicedMember& member) {
  std::int64_t first = 0;
  for (std::size_t rank = 0; rank < member.base_columns.size(); ++rank) {
    const std::int64_t count = member.a_parts[rank].front().columns;
    std::vector<std::int64_t> held(static_cast<std::size_t>(count));
    std::iota(held.begin(), held.end(), first);
    if (held != member.base_columns[rank]) {
      return of_rank(rank) + " has columns " + from_to(first, first + count) +
             " of lora_A, which are not those of its part of the base layer";
    }
    first += count;
  }
  return "";
}

/// Column-parallel layers: the rows of all slices of a rank are those of its part of the base.
std::string wrong_rows(const SlicedMember& member,
                       const std::vector<std::vector<std::int64_t>>& held) {
  for (std::size_t rank = 0; rank < member.base_rows.size(); ++rank) {
    std::vector<std::int64_t> rows = held[rank];
    std::ranges::sort(rows);
    if (rows != member.base_rows[rank]) {
      const auto at = static_cast<std::size_t>(
          std::ranges::mismatch(rows, member.base_rows[rank]).in1 - rows.begin());
      const std::string has = at < rows.size() ? "row " + std::to_string(rows[at]) : "no row";
      const std::string wants = at < member.base_rows[rank].size()
                                    ? "row " + std::to_string(member.base_rows[rank][at])
                                    : "no row";
      return of_rank(rank) + " holds " + has + " of lora_B where its part of the base layer has " +
             wants;
    }
  }
  return "";
}

/// `held`: the rows of lora_B that each rank holds are added.
std::string wrong_b(const SlicedMember& member, std::size_t slice, std::int64_t first,
                    std::vector<std::vector<std::int64_t>>& held) {
  const std::int64_t rows = member.slice_rows[slice];
  const auto ranks = static_cast<std::int64_t>(member.b_parts.size());
  const std::int64_t each = member.b_parts.front()[slice].rows;
  const std::int64_t ways = each > 0 && rows % each == 0 ? rows / each : 0;
  if (ways == 0 || ways > ranks || ranks % ways != 0) {
    return "parts of " + std::to_string(each) + " rows do not make " + std::to_string(rows);
  }
  for (std::int64_t rank = 0; rank < ranks; ++rank) {
    const std::int64_t at = first + rank / (ranks / ways) * each;
    const auto number = static_cast<std::size_t>(rank);
    if (!equal(member.b_parts[number][slice], rows_of(member.b, at, each, member.element_bytes))) {
      return of_rank(number) + " is not rows " + from_to(at, at + each) + " of lora_B";
    }
    for (std::int64_t row = at; row < at + each; ++row) {
      held[number].push_back(row);
    }
  }
  return "";
}

}  // namespace

std::string wrong_when_put_together(const SlicedMember& member) {
  std::int64_t rows = 0;
  for (const std::int64_t one : member.slice_rows) {
    rows += one;
  }
  if (rows != member.b.rows || member.b_parts.empty()) {
    return "the slices have " + std::to_string(rows) + " rows, lora_B has " +
           std::to_string(member.b.rows);
  }
  std::int64_t first = 0;
  std::vector<std::vector<std::int64_t>> held(member.b_parts.size());
  for (std::size_t slice = 0; slice < member.slice_rows.size(); ++slice) {
    std::string wrong = wrong_a(member, slice);
    wrong = wrong.empty() ? wrong_b(member, slice, first, held) : wrong;
    if (!wrong.empty()) {
      return wrong;
    }
    first += member.slice_rows[slice];
  }
  std::string wrong = wrong_columns(member);
  return wrong.empty() ? wrong_rows(member, held) : wrong;
}

}  // namespace bv::oracle
