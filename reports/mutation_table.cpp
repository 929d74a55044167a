#include "reports/mutation_table.hpp"

#include <fmt/format.h>

#include <algorithm>

namespace bv::reports {
namespace {

/// Rows of cells; the first is the heading.
using Cells = std::vector<std::vector<std::string>>;

constexpr const char* kNotAsked = "-";  // of a row: the gate is not run on adapters

std::vector<std::string> sums(const Cells& cells) {
  std::vector<std::string> out = {"all"};
  for (std::size_t column = 1; column < cells.front().size(); ++column) {
    std::int64_t sum = 0;
    for (std::size_t row = 1; row < cells.size(); ++row) {
      sum += cells[row][column] == kNotAsked ? 0 : std::stoll(cells[row][column]);
    }
    out.push_back(std::to_string(sum));
  }
  return out;
}

std::string label_of(const MutationRow& row) {
  return row.side.empty() ? row.op : row.op + " " + row.side;
}

Cells operators(const Mutation& mutation) {
  Cells out = {{"operator", "mutants", "killed", "equivalent", "survived"}};
  for (const std::string& level : mutation.levels) {
    out.front().push_back("by " + level);
  }
  for (const double std : mutation.gate_stds) {
    out.front().push_back(fmt::format("gate {}", std));
  }
  for (const MutationRow& row : mutation.rows) {
    std::vector<std::string> cells = {label_of(row), std::to_string(row.mutants),
                                      std::to_string(row.killed), std::to_string(row.equivalent),
                                      std::to_string(row.survived)};
    for (const std::int64_t n : row.by_level) {
      cells.push_back(std::to_string(n));
    }
    for (std::size_t i = 0; i < mutation.gate_stds.size(); ++i) {
      cells.push_back(i < row.by_gate.size() ? std::to_string(row.by_gate[i]) : kNotAsked);
    }
    out.push_back(std::move(cells));
  }
  out.push_back(sums(out));
  return out;
}

/// Rows of faults in a bridge, or of faults in an adapter: other claims see them.
using Rows = std::vector<const MutationRow*>;
Rows rows_of(const Mutation& mutation, bool adapters) {
  Rows out;
  for (const MutationRow& row : mutation.rows) {
    if (row.op.starts_with("adapter:") == adapters) {
      out.push_back(&row);
    }
  }
  return out;
}

/// Claims that killed nothing have no column. Not every model has a forward form: behind the last
/// claim, the forward one, stands how many mutants it was asked of.
Cells by_claim(const Mutation& mutation, const Rows& rows) {
  const auto any = [&](const auto& count) {
    return std::any_of(rows.begin(), rows.end(),
                       [&](const MutationRow* row) { return count(*row) > 0; });
  };
  std::vector<std::size_t> shown;
  for (std::size_t i = 0; i < mutation.claims.size(); ++i) {
    if (any([&](const MutationRow& row) { return row.by_claim[i]; })) {
      shown.push_back(i);
    }
  }
  const bool forward = any([](const MutationRow& row) { return row.forward_asked; });
  Cells out = {{"operator"}};
  for (const std::size_t i : shown) {
    out.front().push_back(mutation.claims[i].first);
  }
  if (forward) {
    out.front().push_back("forward asked of");
  }
  for (const MutationRow* row : rows) {
    std::vector<std::string> cells = {label_of(*row)};
    for (const std::size_t i : shown) {
      cells.push_back(std::to_string(row->by_claim[i]));
    }
    if (forward) {
      cells.push_back(std::to_string(row->forward_asked));
    }
    out.push_back(std::move(cells));
  }
  out.push_back(sums(out));
  return out;
}

Cells reasons(const Mutation& mutation) {
  Cells out = {{"equivalent because", "mutants", "killed elsewhere"}};
  for (const Mutation::Reason& reason : mutation.reasons) {
    out.push_back(
        {reason.reason, std::to_string(reason.mutants), std::to_string(reason.killed_elsewhere)});
  }
  out.push_back(sums(out));
  return out;
}

/// The tables, in order.
std::vector<Cells> tables(const Mutation& mutation) {
  std::vector<Cells> out = {operators(mutation)};
  for (const bool adapters : {false, true}) {
    const Rows rows = rows_of(mutation, adapters);
    if (!rows.empty()) {
      out.push_back(by_claim(mutation, rows));
    }
  }
  out.push_back(reasons(mutation));
  return out;
}

/// Columns [begin, end) behind the first one.
std::string column_block(const Cells& cells, const std::vector<std::size_t>& widths,
                         std::size_t begin, std::size_t end) {
  std::string out;
  for (const auto& row : cells) {
    out += fmt::format("  {:<{}}", row[0], widths[0]);
    for (std::size_t i = begin; i < end; ++i) {
      out += fmt::format("  {:>{}}", row[i], widths[i]);
    }
    out += "\n";
  }
  return out;
}

std::string aligned(const Cells& cells, std::size_t width) {
  std::vector<std::size_t> widths(cells.front().size(), 0);
  for (const auto& row : cells) {
    for (std::size_t i = 0; i < row.size(); ++i) {
      widths[i] = std::max(widths[i], row[i].size());
    }
  }
  std::string out;
  for (std::size_t begin = 1; begin < widths.size();) {
    std::size_t taken = 2 + widths[0] + 2 + widths[begin];
    std::size_t end = begin + 1;
    while (end < widths.size() && taken + 2 + widths[end] <= width) {
      taken += 2 + widths[end++];
    }
    out += (out.empty() ? "" : "\n") + column_block(cells, widths, begin, end);
    begin = end;
  }
  return out;
}

std::string markdown(const Cells& cells) {
  std::string out;
  for (std::size_t row = 0; row < cells.size(); ++row) {
    out += "|";
    for (const std::string& cell : cells[row]) {
      out += " " + cell + " |";
    }
    out += "\n";
    if (row == 0) {
      out += "|---|";
      for (std::size_t i = 1; i < cells[row].size(); ++i) {
        out += "---:|";
      }
      out += "\n";
    }
  }
  return out;
}

template <class Form>
std::string joined(const std::vector<Cells>& tables, Form&& form) {
  std::string out;
  for (const Cells& cells : tables) {
    out += (out.empty() ? "" : "\n") + form(cells);
  }
  return out;
}

}  // namespace

std::string mutation_table(const Mutation& mutation, std::size_t width) {
  return joined(tables(mutation), [width](const Cells& cells) { return aligned(cells, width); });
}

std::string mutation_markdown(const Mutation& mutation) {
  return joined(tables(mutation), markdown);
}

}  // namespace bv::reports
