#include "core/model/carried.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <charconv>
#include <iterator>
#include <set>

#include "core/base/arith.hpp"
#include "core/base/text.hpp"
#include "core/family/changed_family.hpp"
#include "core/family/family.hpp"
#include "core/model/resolve.hpp"

namespace bv::model {
namespace {

constexpr std::int64_t kBlocksMax = 1 << 16;

/// "blocks.3.attn.qkv.weight" -> "blocks.", 3, ".attn.qkv.weight". Without a number: all before.
struct AtNumber {
  std::string before;
  std::optional<std::int64_t> number;
  std::string after;
};

AtNumber split_at_number(std::string_view name) {
  for (std::size_t begin = 0; begin < name.size();) {
    const std::size_t end = std::min(name.find('.', begin), name.size());
    const std::string_view part = name.substr(begin, end - begin);
    std::int64_t number = 0;
    const auto read = std::from_chars(part.data(), part.data() + part.size(), number);
    const bool plain = part == "0" || (!part.empty() && part.front() >= '1' && part.front() <= '9');
    if (plain && read.ec == std::errc() && read.ptr == part.data() + part.size() &&
        number < kBlocksMax) {
      return {std::string(name.substr(0, begin)), number, std::string(name.substr(end))};
    }
    begin = end + 1;
  }
  return {std::string(name), std::nullopt, ""};
}

/// Tensors of one pattern: number -> shape.
using Blocks = std::map<std::int64_t, const Shape*>;

/// The numbers that stand behind one prefix, and whether each tensor under them has one shape.
struct Numbered {
  const std::set<std::int64_t>& numbers;
  bool alike;
};

/// "blocks.{k}.norm.weight", 3 -> "blocks.3.norm.weight"
std::string at_number(std::string name, std::int64_t number) {
  const std::size_t braces = name.find("{k}");
  return braces == std::string::npos ? name : name.replace(braces, 3, std::to_string(number));
}

std::vector<std::string> extents_of(const Shape& shape) {
  std::vector<std::string> out;
  for (const std::int64_t extent : shape) {
    out.push_back(std::to_string(extent));
  }
  return out;
}

class CarriedFinder {
 public:
  CarriedFinder(const family::Family& family, const Headers& headers, std::string_view before,
                const Geometry& geometry)
      : family_(family), headers_(headers), before_(before), geometry_(geometry) {}

  /// Is the part there, by what the config says?
  [[nodiscard]] bool holds(const std::vector<std::string>& when) const {
    static const std::set<std::string, std::less<>> kNoFlags;
    return family::holds(family_, when, {&geometry_.symbols, &kNoFlags});
  }

  void add(const family::Carried& carried) {
    for (const std::string& prefix : carried.hf) {
      const std::string whole = std::string(before_) + prefix;
      const auto first = headers_.lower_bound(whole);
      if (first != headers_.end() && first->first.starts_with(whole)) {
        carried.parts.empty() ? collect(carried, prefix, whole) : expect(carried, prefix, whole);
        return;
      }
    }
    NameFault fault;
    fault.code = Code::HfTensorMissing;
    fault.subject = carried.hf.front() + only_tensor(carried);
    fault.message = fmt::format(
        "no HF tensor is under {}: Megatron parameters {}* would keep their initial values",
        join(carried.hf, " or "), carried.megatron);
    fault.found = fmt::format("absent from the headers of {}", counted(headers_.size(), "tensor"));
    fault.wanted = fault.subject;
    fault.help = "give the checkpoint of the whole model, or --family with that of the text model";
    out.faults.push_back(std::move(fault));
  }

  FoundCarried out;
  std::vector<family::CarriedTensors> tensors;

 private:
  /// What the class of the tower builds: tensors that are not there are missing, others are unused,
  /// and shapes are those of the config.
  void expect(const family::Carried& carried, const std::string& prefix, const std::string& whole) {
    std::size_t listed = 0;
    for (const family::CarriedPart& part : carried.parts) {
      if (!holds(part.when) || (part.optional && !any_of(part, whole))) {
        continue;
      }
      for (const auto& [name, extents] : part.tensors) {
        std::vector<std::string> sizes = extents;
        const auto there = headers_.find(whole + at_number(name, 0));
        for (std::size_t i = 0; i < sizes.size(); ++i) {
          if (sizes[i] == family::kAnyExtent) {
            const bool known = there != headers_.end() && i < there->second.shape.size();
            sizes[i] = known ? std::to_string(there->second.shape[i]) : "1";
          }
        }
        tensors.push_back({prefix + name, carried.megatron + name, std::move(sizes), part.over});
        ++listed;
      }
    }
    out.detected.push_back({"carried", prefix + "*",
                            fmt::format("as they are, as {}*; {} of its class", carried.megatron,
                                        counted(listed, "name"))});
  }

  [[nodiscard]] bool any_of(const family::CarriedPart& part, const std::string& whole) const {
    return std::any_of(part.tensors.begin(), part.tensors.end(), [&](const auto& one) {
      return headers_.contains(whole + at_number(one.first, 0));
    });
  }

  /// The name behind the prefix where its class has no other, else all of them.
  [[nodiscard]] static std::string only_tensor(const family::Carried& carried) {
    const bool one = carried.parts.size() == 1 && carried.parts.front().over.empty() &&
                     carried.parts.front().tensors.size() == 1;
    return one ? carried.parts.front().tensors.front().first : "*";
  }

  void collect(const family::Carried& carried, const std::string& prefix,
               const std::string& whole) {
    std::map<std::pair<std::string, std::string>, Blocks> patterns;
    std::map<std::string, std::set<std::int64_t>> blocks;  // what stands before a number -> those
    std::size_t found = 0;
    for (auto at = headers_.lower_bound(whole);
         at != headers_.end() && at->first.starts_with(whole); ++at) {
      const std::string tail = at->first.substr(whole.size());
      if (tail.empty() || tail.find_first_of("{}") != std::string::npos) {
        continue;
      }
      ++found;
      const AtNumber parts = split_at_number(tail);
      if (!parts.number) {
        tensors.push_back(
            {prefix + tail, carried.megatron + tail, extents_of(at->second.shape), ""});
        continue;
      }
      patterns[{parts.before, parts.after}].emplace(*parts.number, &at->second.shape);
      blocks[parts.before].insert(*parts.number);
    }
    std::set<std::string> differing;  // what stands before the numbers of a sequence of modules
    for (const auto& [pattern, list] : patterns) {
      if (!equal(list)) {
        differing.insert(pattern.first);
      }
    }
    for (const auto& [pattern, list] : patterns) {
      add_pattern(carried, prefix, pattern, list,
                  {blocks.at(pattern.first), !differing.contains(pattern.first)});
    }
    out.detected.push_back(
        {"carried", prefix + "*",
         fmt::format("{} as they are, as {}*; which of them there must be, and of which shapes, is "
                     "not judged",
                     counted(found, "tensor"), carried.megatron)});
  }

  [[nodiscard]] static bool equal(const Blocks& list) {
    return std::all_of(list.begin(), list.end(),
                       [&](const auto& one) { return *one.second == *list.begin()->second; });
  }

  void add_pattern(const family::Carried& carried, const std::string& prefix,
                   const std::pair<std::string, std::string>& pattern, const Blocks& list,
                   const Numbered& blocks) {
    const auto& [before, after] = pattern;
    const std::int64_t count = *blocks.numbers.rbegin() + 1;
    if (equal(list) && std::ssize(list) == count) {
      const std::string name = before + "{k}" + after;
      tensors.push_back({prefix + name, carried.megatron + name, extents_of(*list.begin()->second),
                         std::to_string(count)});
      return;
    }
    for (const auto& [number, shape] : list) {
      const std::string name = fmt::format("{}{}{}", before, number, after);
      tensors.push_back({prefix + name, carried.megatron + name, extents_of(*shape), ""});
    }
    add_reshaped(carried, prefix, pattern, list);
    const std::set<std::int64_t> lacking = lacking_blocks(list, blocks);
    if (!lacking.empty()) {
      out.faults.push_back(torn(carried, prefix, pattern, lacking, count));
    }
  }

  /// One block holds as many elements as all others, in another shape: it was flattened or
  /// transposed. Blocks of other sizes are those of a tower that narrows.
  void add_reshaped(const family::Carried& carried, const std::string& prefix,
                    const std::pair<std::string, std::string>& pattern, const Blocks& list) {
    if (list.size() < 3) {
      return;
    }
    const auto first = list.begin();
    const Shape& usual =
        *first->second == *std::next(first)->second ? *first->second : *list.rbegin()->second;
    const auto other = std::find_if(list.begin(), list.end(),
                                    [&](const auto& one) { return *one.second != usual; });
    const auto others = std::count_if(list.begin(), list.end(),
                                      [&](const auto& one) { return *one.second != usual; });
    if (others != 1 || element_count(*other->second) != element_count(usual)) {
      return;
    }
    NameFault fault;
    fault.code = Code::ShapeMismatch;
    fault.subject = fmt::format("{}{}{}{}", prefix, pattern.first, other->first, pattern.second);
    fault.message = fmt::format("HF tensor {} has another shape than in every other block: {}{}*",
                                fault.subject, carried.megatron, pattern.first);
    fault.found = shape_text(*other->second);
    fault.wanted = shape_text(usual);
    fault.help = "save the tensor in the shape that the class of the tower gives it";
    out.faults.push_back(std::move(fault));
  }

  /// The blocks that lack a tensor which most of them have. A number that nothing stands under is a
  /// block that is missing where those that are there are alike; it is none in a sequence of
  /// modules, some of which have no tensors: those differ in a shape, or come at equal distances.
  [[nodiscard]] static std::set<std::int64_t> lacking_blocks(const Blocks& list,
                                                             const Numbered& blocks) {
    const std::set<std::int64_t>& numbers = blocks.numbers;
    std::set<std::int64_t> distances;
    for (auto at = numbers.begin(); std::next(at) != numbers.end(); ++at) {
      distances.insert(*std::next(at) - *at);
    }
    const bool gap =
        blocks.alike && numbers.size() > 2 && (distances.size() > 1 || *numbers.begin() > 0);
    const bool most = list.size() * 2 > numbers.size();
    std::set<std::int64_t> out;
    for (std::int64_t number = 0; number <= *numbers.rbegin(); ++number) {
      if (!list.contains(number) && (numbers.contains(number) ? most : gap)) {
        out.insert(number);
      }
    }
    return out;
  }

  [[nodiscard]] static NameFault torn(const family::Carried& carried, const std::string& prefix,
                                      const std::pair<std::string, std::string>& pattern,
                                      const std::set<std::int64_t>& lacking, std::int64_t count) {
    const std::string name = fmt::format("{}{{k}}{}", pattern.first, pattern.second);
    NameFault fault;
    fault.code = Code::HfTensorMissing;
    fault.subject =
        fmt::format("{}{}{}{}", prefix, pattern.first, *lacking.begin(), pattern.second);
    fault.message = fmt::format(
        "HF tensors {}{} are missing (k {}): Megatron parameters such as {}{}{}{} would keep their "
        "initial values",
        prefix, name, ranges_text(lacking), carried.megatron, pattern.first, *lacking.begin(),
        pattern.second);
    fault.found = fmt::format("{} of {}", count - std::ssize(lacking), counted(count, "block"));
    fault.wanted = "the tensor in every block";
    fault.help = "check that the index and every shard of the checkpoint are there";
    return fault;
  }

  const family::Family& family_;
  const Headers& headers_;
  std::string_view before_;
  const Geometry& geometry_;
};

}  // namespace

FoundCarried find_carried(const family::FamilyPtr& family, const Headers& headers,
                          std::string_view before, const Geometry& geometry) {
  CarriedFinder finder(*family, headers, before, geometry);
  for (const family::Carried& carried : family->carried) {
    if (finder.holds(carried.when)) {
      finder.add(carried);
    }
  }
  finder.out.family = family::with_carried(*family, finder.tensors);
  return std::move(finder.out);
}

}  // namespace bv::model
