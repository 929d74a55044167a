// Changed tensors -> causes.
#include <fmt/format.h>

#include <algorithm>
#include <map>
#include <set>

#include "core/base/text.hpp"
#include "core/convert/fingerprints.hpp"
#include "core/io/fault_text.hpp"

namespace bv::convert {
namespace {

constexpr std::size_t kNamedMax = 8;  // changed tensors with a block of their own
constexpr const char* kPutBack =
    "put each file back under its own name, or convert the HF directory again; nothing was written";

bool is_digit(char c) {
  return c >= '0' && c <= '9';
}

/// Two names that differ in one number: "decoder.layers." and the numbers.
struct Renumbered {
  std::string before;
  std::string wanted, found;  // digits; "" when the names differ otherwise
};

Renumbered renumbered(const std::string& wanted, const std::string& found) {
  const auto [a, b] = std::mismatch(wanted.begin(), wanted.end(), found.begin(), found.end());
  auto begin = static_cast<std::size_t>(a - wanted.begin());
  static_cast<void>(b);
  while (begin > 0 && is_digit(wanted[begin - 1])) {
    --begin;
  }
  const auto digits_at = [begin](const std::string& name) {
    std::size_t end = begin;
    while (end < name.size() && is_digit(name[end])) {
      ++end;
    }
    return end;
  };
  const std::size_t wanted_end = digits_at(wanted);
  const std::size_t found_end = digits_at(found);
  if (wanted_end == begin || found_end == begin ||
      wanted.substr(wanted_end) != found.substr(found_end)) {
    return {};
  }
  return {wanted.substr(0, begin), wanted.substr(begin, wanted_end - begin),
          found.substr(begin, found_end - begin)};
}

/// Tensors that moved together: from one file to another, or from one layer or expert to another.
struct Move {
  std::string file, from;             // which file holds what, and which file's that was
  std::string before, wanted, found;  // "" for a whole file
  auto operator<=>(const Move&) const = default;
};

Move move_of(const Change& change) {
  Move out{change.where.file, change.holds->file, "", "", ""};
  if (change.where.tensor == change.holds->tensor) {
    return out;
  }
  const Renumbered number = renumbered(change.where.tensor, change.holds->tensor);
  out.before = number.before;
  out.wanted = number.wanted.empty() ? change.where.tensor : number.wanted;
  out.found = number.wanted.empty() ? change.holds->tensor : number.found;
  return out;
}

Move reverse(const Move& move) {
  return {move.from, move.file, move.before, move.found, move.wanted};
}

/// "decoder.layers.0 of pp0_tp0.safetensors", or the file.
std::string part(const Move& move, bool wanted) {
  const std::string name =
      move.before.empty() && move.wanted.empty()
          ? ""
          : io::printable(move.before + (wanted ? move.wanted : move.found)) + " of ";
  return name + (wanted ? move.file : move.from);
}

FolderFault fault_of(const Move& move, std::int64_t tensors, bool exchanged) {
  FolderFault out;
  out.code = Code::ContentsExchanged;
  out.cases = tensors;
  out.subject = move.wanted.empty() ? move.file : move.before + move.wanted;
  const std::string here = part(move, true);
  const std::string there = part(move, false);
  const std::string count = counted(tensors, "tensor");
  out.title = exchanged ? fmt::format("{} and {} are exchanged ({} each)", here, there, count)
                        : fmt::format("{} holds what {} held ({})", here, there, count);
  out.found = fmt::format("the contents of {}", there);
  out.wanted = fmt::format("the contents of {}, as manifest.json has them", here);
  out.help = kPutBack;
  return out;
}

void add_moves(const Fingerprints& fingerprints, std::vector<FolderFault>& out) {
  std::map<Move, std::int64_t> moves;
  for (const Change& change : fingerprints.changes) {
    if (change.holds) {
      ++moves[move_of(change)];
    }
  }
  std::set<Move> told;
  for (const auto& [move, tensors] : moves) {
    if (told.contains(move)) {
      continue;
    }
    const Move back = reverse(move);
    const bool exchanged = moves.contains(back);
    told.insert(back);
    out.push_back(fault_of(move, tensors, exchanged));
  }
}

FolderFault changed(const std::vector<const Change*>& changes, std::int64_t all) {
  FolderFault out;
  const ShardTensor& first = changes.front()->where;
  const auto count = static_cast<std::int64_t>(changes.size());
  out.subject = first.tensor;
  out.cases = count;
  if (count == 1) {
    out.title = fmt::format("{} in {} changed since it was written", io::printable(first.tensor),
                            first.file);
    out.found = "another fingerprint";
  } else {
    out.title =
        fmt::format("{} of {} tensors changed since they were written: {} in {} and others",
                    thousands(count), thousands(all), io::printable(first.tensor), first.file);
    std::vector<std::string> names;
    for (const Change* change : changes) {
      names.push_back(
          fmt::format("{} in {}", io::printable(change->where.tensor), change->where.file));
    }
    out.found = join(io::first_lines(names, kNamedMax), ", ");
  }
  out.wanted = "the fingerprint of manifest.json";
  out.help =
      "take the shards from where they are whole, or convert again; when these are trained "
      "weights: --accept-changed. Nothing was written";
  return out;
}

}  // namespace

std::int64_t trained(const Fingerprints& fingerprints) {
  return std::count_if(fingerprints.changes.begin(), fingerprints.changes.end(),
                       [](const Change& change) { return !change.holds; });
}

std::vector<FolderFault> folder_faults(const Fingerprints& fingerprints, bool accept_changed) {
  std::vector<FolderFault> out;
  add_moves(fingerprints, out);
  if (accept_changed) {
    return out;
  }
  std::vector<const Change*> rest;
  for (const Change& change : fingerprints.changes) {
    if (!change.holds) {
      rest.push_back(&change);
    }
  }
  if (rest.size() > kNamedMax) {
    out.push_back(changed(rest, fingerprints.tensors));
    return out;
  }
  for (const Change* change : rest) {
    out.push_back(changed({change}, fingerprints.tensors));
  }
  return out;
}

}  // namespace bv::convert
