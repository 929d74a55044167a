#include "core/trace/trace_names.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <set>

#include "core/base/text.hpp"

namespace bv::trace {
namespace {

constexpr std::size_t kShownNames = 6;

std::string digits_out(std::string_view name) {
  std::string out;
  for (const char c : name) {
    const bool digit = c >= '0' && c <= '9';
    if (!digit || out.empty() || out.back() != '#') {
      out += digit ? '#' : c;
    }
  }
  return out;
}

/// Names that differ in numbers only, that end alike, or that are close; at most kShownNames.
std::vector<std::string> similar_names(std::string_view word, const std::set<std::string>& names) {
  std::vector<std::string> out;
  const auto take = [&](const auto& admits) {
    for (const std::string& name : names) {
      if (out.size() < kShownNames && admits(name)) {
        out.push_back(name);
      }
    }
  };
  const std::string pattern = digits_out(word);
  take([&](const std::string& name) { return digits_out(name) == pattern; });
  if (out.empty()) {
    const std::vector<std::string> all(names.begin(), names.end());
    if (const auto near = nearest(word, all)) {
      out.push_back(*near);
    }
  }
  if (out.empty() && !word.empty()) {
    take([&](const std::string& name) { return name.ends_with(word) || word.ends_with(name); });
  }
  if (out.empty()) {
    const std::string_view tail = word.substr(word.find_last_of('.', word.rfind('.') - 1) + 1);
    take([&](const std::string& name) { return !tail.empty() && name.ends_with(tail); });
  }
  if (out.empty() && !word.empty()) {  // a part of a name, or a glob
    const std::string around = "*" + std::string(word) + "*";
    take([&](const std::string& name) { return glob_match(around, name); });
  }
  return out;
}

}  // namespace

std::optional<HfPlace> find_hf(const model::Model& model, std::string_view name) {
  for (std::uint32_t m = 0; m < model.mappings.size(); ++m) {
    const auto& hf = model.mappings[m].hf;
    const auto at = std::find(hf.begin(), hf.end(), name);
    if (at != hf.end()) {
      return HfPlace{m, static_cast<std::size_t>(at - hf.begin())};
    }
  }
  return std::nullopt;
}

std::vector<Place> find_megatron(const plan::Plan& plan, std::string_view name,
                                 std::optional<std::size_t> file) {
  std::vector<Place> out;
  for (const bool copies : {false, true}) {
    for (std::size_t f = 0; f < plan.files().size(); ++f) {
      const auto& targets = plan.files()[f].targets;
      for (std::size_t i = 0; i < targets.size(); ++i) {
        const std::string& has = file ? targets[i].name : targets[i].global_name;
        if (targets[i].copy == copies && has == name && (!file || *file == f)) {
          out.push_back({f, i, {}, {}, {}, {}});
        }
      }
    }
  }
  return out;
}

Error unknown_name(const plan::Plan& plan, const TraceQuery& query, const std::string& word) {
  const model::Model& model = plan.model();
  const std::string unused = model.why_unused(word);
  if (!unused.empty()) {
    return fail(Code::BadValue, fmt::format("{} is not converted: {}", escaped(word), unused))
        .advise("trace a tensor that has a Megatron parameter");
  }
  const bool on_other_side = query.from == Side::Megatron
                                 ? find_hf(model, word).has_value()
                                 : !find_megatron(plan, word, std::nullopt).empty();
  if (query.from && on_other_side) {
    const Side other = *query.from == Side::Hf ? Side::Megatron : Side::Hf;
    return fail(Code::BadValue, fmt::format("there is no tensor {} on the {} side", escaped(word),
                                            name(*query.from)))
        .pair(fmt::format("a tensor of the {} side", name(other)),
              fmt::format("one of the {} side", name(*query.from)))
        .advise(fmt::format("write --from {}, or leave --from out", name(other)));
  }
  std::set<std::string> names;
  if (query.from != Side::Megatron) {
    for (const model::Mapping& mapping : model.mappings) {
      names.insert(mapping.hf.begin(), mapping.hf.end());
    }
  }
  if (query.from != Side::Hf) {
    for (const plan::ShardFile& file : plan.files()) {
      for (const plan::Target& target : file.targets) {
        names.insert(target.global_name);
      }
    }
  }
  const auto similar = similar_names(word, names);
  const std::string side = query.from ? std::string(name(*query.from)) + " " : "";
  Error error = fail(Code::BadValue, fmt::format("no {}tensor is named {}", side, escaped(word)));
  for (const std::string& one : similar) {
    error.facts.push_back("there is " + one);
  }
  error.help = similar.empty() ? "bridge-verify inspect --model DIR lists the names"
                               : "did you mean " + similar.front() + "?";
  return error;
}

Error unknown_local_name(const plan::ShardFile& file, const std::string& shard,
                         const std::string& word) {
  std::set<std::string> names;
  for (const plan::Target& target : file.targets) {
    names.insert(target.name);
  }
  const auto similar = similar_names(word, names);
  return fail(Code::BadValue, fmt::format("shard {} has no tensor {}", shard, escaped(word)))
      .fact(fmt::format("it has {}", counted(names.size(), "tensor")))
      .advise(similar.empty() ? "bridge-verify layout shows which layers a stage holds"
                              : "did you mean " + similar.front() + "?");
}

Result<std::size_t> find_file(const plan::Plan& plan, std::string_view shard) {
  const std::string file(
      shard.ends_with(".safetensors")
          ? shard.substr(0, shard.size() - std::string_view(".safetensors").size())
          : shard);
  std::vector<std::string> names;
  for (std::size_t f = 0; f < plan.files().size(); ++f) {
    const std::string has = parallel::shard_name(plan.files()[f].key, plan.layout());
    if (has == file) {
      return f;
    }
    names.push_back(has);
  }
  const std::size_t count = names.size();
  names.resize(std::min(count, kShownNames));
  return fail(Code::BadValue, fmt::format("layout {} has no shard {}",
                                          parallel::layout_id(plan.layout()), escaped(shard)))
      .pair(escaped(shard), fmt::format("one of {} shards: {}{}", count, join(names, " "),
                                        count > names.size() ? " ..." : ""))
      .advise("bridge-verify layout lists the shards; choose the layout with --tp, --pp, --ep");
}

}  // namespace bv::trace
