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
constexpr const char* kWriteBack =
    "write each tensor under its own name, or convert the HF directory again; nothing was written";

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

/// Some of the tensors of a part, "mlp.router.weight of decoder.layers.0 of F", or all of it.
struct Moved {
  std::vector<const Change*> tensors;
  bool whole = false;  // every tensor of the part that can be told from its counterpart
};

/// The tensor of `from` that stands where `name` stands in the other part.
std::string counterpart(const Move& move, const std::string& name) {
  return move.wanted.empty()
             ? name
             : move.before + move.found + name.substr(move.before.size() + move.wanted.size());
}

/// Is the tensor of the part that moved?
bool lies_in(const Move& move, const std::string& name) {
  const std::string start = move.before + move.wanted;
  return move.wanted.empty() || name == start ||
         (name.starts_with(start) && !is_digit(name[start.size()]));
}

bool is_whole(const Move& move, const std::vector<const Change*>& moved,
              const Fingerprints& fingerprints) {
  std::set<std::string_view> names;
  for (const Change* change : moved) {
    names.insert(change->where.tensor);
  }
  const auto& here = fingerprints.found.at(move.file);
  const auto& there = fingerprints.found.at(move.from);
  return std::all_of(here.begin(), here.end(), [&](const auto& tensor) {
    if (names.contains(tensor.first) || !lies_in(move, tensor.first)) {
      return true;
    }
    const auto other = there.find(counterpart(move, tensor.first));
    return other != there.end() && other->second == tensor.second;
  });
}

std::string place_of(const ShardTensor& one) {
  return fmt::format("{} of {}", io::printable(one.tensor), one.file);
}

/// The title of tensors that are not all of what they lie in.
std::string title_of_some(const Move& move, const Moved& moved, bool exchanged) {
  const Change& first = *moved.tensors.front();
  if (moved.tensors.size() == 1) {
    return exchanged ? fmt::format("{} and {} are exchanged", place_of(first.where),
                                   place_of(*first.holds))
                     : fmt::format("{} holds what {} held", place_of(first.where),
                                   place_of(*first.holds));
  }
  std::vector<std::string> names;
  for (const Change* change : moved.tensors) {
    names.push_back(io::printable(change->where.tensor));
  }
  const std::string count = counted(names.size(), "tensor");
  return exchanged
             ? fmt::format("{} of {} are exchanged with those of {}: {}", count, part(move, true),
                           part(move, false), join(io::first_lines(names, kNamedMax), ", "))
             : fmt::format("{} of {} hold what those of {} held: {}", count, part(move, true),
                           part(move, false), join(io::first_lines(names, kNamedMax), ", "));
}

FolderFault fault_of(const Move& move, const Moved& moved, bool exchanged) {
  FolderFault out;
  out.code = Code::ContentsExchanged;
  out.cases = std::ssize(moved.tensors);
  const Change& first = *moved.tensors.front();
  const bool one = !moved.whole && moved.tensors.size() == 1;
  out.subject = !moved.whole          ? first.where.tensor
                : move.wanted.empty() ? move.file
                                      : move.before + move.wanted;
  const std::string here = one ? place_of(first.where) : part(move, true);
  const std::string there = one ? place_of(*first.holds) : part(move, false);
  const std::string count = counted(moved.tensors.size(), "tensor");
  out.title = !moved.whole ? title_of_some(move, moved, exchanged)
              : exchanged  ? fmt::format("{} and {} are exchanged ({} each)", here, there, count)
                           : fmt::format("{} holds what {} held ({})", here, there, count);
  out.found = fmt::format("the contents of {}", there);
  out.wanted = fmt::format("the contents of {}, as manifest.json has them", here);
  out.help = moved.whole && move.file != move.from ? kPutBack : kWriteBack;
  return out;
}

void add_moves(const Fingerprints& fingerprints, std::vector<FolderFault>& out) {
  std::map<Move, Moved> moves;
  for (const Change& change : fingerprints.changes) {
    if (change.holds) {
      moves[move_of(change)].tensors.push_back(&change);
    }
  }
  std::set<Move> told;
  for (auto& [move, moved] : moves) {
    if (told.contains(move)) {
      continue;
    }
    const Move back = reverse(move);
    const bool exchanged = moves.contains(back);
    moved.whole = is_whole(move, moved.tensors, fingerprints);
    told.insert(back);
    out.push_back(fault_of(move, moved, exchanged));
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

/// "a, b and 3 more"
std::string some_of(const std::vector<std::string>& names) {
  constexpr std::size_t kSome = 4;
  if (names.size() <= kSome + 1) {
    return join(names, ", ");
  }
  return fmt::format("{} and {} more",
                     join(std::vector<std::string>(names.begin(), names.begin() + kSome), ", "),
                     names.size() - kSome);
}

FolderFault other_tensors(const plan::ShardFile& file, Code code, std::size_t cases,
                          std::size_t held) {
  FolderFault out;
  out.code = code;
  out.cases = static_cast<std::int64_t>(cases);
  out.found = counted(held, "tensor");
  out.wanted = counted(file.targets.size(), "tensor");
  out.help =
      "take the shard from where it is whole, or convert the HF directory again; nothing was "
      "written";
  return out;
}

}  // namespace

std::vector<FolderFault> name_faults(const checkpoint::Shards& shards, const plan::Plan& plan,
                                     const std::string& holder) {
  std::vector<FolderFault> out;
  for (std::size_t i = 0; i < shards.size(); ++i) {
    const plan::ShardFile& file = plan.files()[i];
    const std::string& held_by = holder.empty() ? file.name : holder;
    const checkpoint::OtherNames other = checkpoint::other_names(*shards[i], file);
    const std::size_t held = file.targets.size() - other.absent.size() + other.beyond.size();
    if (!other.absent.empty()) {
      std::vector<std::string> names;
      for (const plan::Target* target : other.absent) {
        names.push_back(target->name);
      }
      FolderFault& fault =
          out.emplace_back(other_tensors(file, Code::MegatronParamUnfilled, names.size(), held));
      fault.subject = names.front();
      fault.title = fmt::format(
          "{} has no {}: {} cannot be put together", held_by, some_of(names),
          io::printable(plan.model().mappings[other.absent.front()->mapping].hf.front()));
    }
    if (!other.beyond.empty()) {
      FolderFault& fault =
          out.emplace_back(other_tensors(file, Code::ShardContents, other.beyond.size(), held));
      fault.subject = other.beyond.front();
      fault.title = fmt::format("{} holds {}, which its layout does not have", held_by,
                                some_of(other.beyond));
    }
  }
  for (FolderFault& fault : out) {
    if (!holder.empty()) {
      fault.help = "give the HF model that this checkpoint is of with --like; nothing was written";
    }
  }
  return out;
}

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
