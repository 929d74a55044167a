#include "core/lora/class_names.hpp"

#include <algorithm>
#include <optional>

#include "core/lora/adapter_keys.hpp"

namespace bv::lora {
namespace {

constexpr char kBeginning = '^';  // of an entry that is about the first components of a name
constexpr char kJoint = '+';      // between modules that are one in the class

using Renamings = std::vector<std::pair<std::string, std::string>>;

/// Entries about beginnings, or those about modules anywhere; as (from, to).
Renamings renamings(const family::Family& family, bool beginnings, bool to_file) {
  Renamings out;
  for (const auto& [file, own] : family.class_modules) {
    const bool joint = file.find(kJoint) != std::string::npos;
    if (!joint && file.starts_with(kBeginning) == beginnings) {
      std::string from = file.substr(beginnings ? 1 : 0);
      to_file ? out.emplace_back(own, std::move(from)) : out.emplace_back(std::move(from), own);
    }
  }
  return out;
}

bool begins_with(std::string_view name, std::string_view components) {
  return name.starts_with(components) &&
         (name.size() == components.size() || name[components.size()] == '.');
}

/// The longest entry decides; one that ends as the longest beginning leaves the name alone:
/// "model.visual" is no "model" that became "model.language_model".
std::string with_other_beginning(std::string_view name, const Renamings& all) {
  const std::pair<std::string, std::string>* longest = nullptr;
  std::size_t already = 0;
  for (const auto& one : all) {
    if (begins_with(name, one.first) &&
        (longest == nullptr || one.first.size() > longest->first.size())) {
      longest = &one;
    }
    if (begins_with(name, one.second)) {
      already = std::max(already, one.second.size());
    }
  }
  if (longest == nullptr || already > longest->first.size()) {
    return std::string(name);
  }
  return longest->second + std::string(name.substr(longest->first.size()));
}

/// `from` as whole components of a name, with `to` in their place; nullopt when it has none.
std::optional<std::string> with_components(std::string_view name, std::string_view from,
                                           std::string_view to) {
  for (std::size_t at = name.find(from); at != std::string_view::npos;
       at = name.find(from, at + 1)) {
    const std::size_t end = at + from.size();
    if ((at == 0 || name[at - 1] == '.') && (end == name.size() || name[end] == '.')) {
      return std::string(name.substr(0, at)) + std::string(to) + std::string(name.substr(end));
    }
  }
  return std::nullopt;
}

/// The first entry that names components of it decides.
std::string with_other_modules(std::string_view name, const Renamings& all) {
  for (const auto& [from, to] : all) {
    if (auto renamed = with_components(name, from, to)) {
      return *renamed;
    }
  }
  return std::string(name);
}

}  // namespace

std::string class_name(const family::Family* family, std::string_view in_file) {
  if (family == nullptr) {
    return std::string(in_file);
  }
  return with_other_modules(with_other_beginning(in_file, renamings(*family, true, false)),
                            renamings(*family, false, false));
}

std::vector<std::string> file_names(const family::Family* family, std::string_view in_class) {
  std::vector<std::string> out;
  if (family == nullptr) {
    return out;
  }
  const auto add = [&](std::string name) {
    if (name != in_class && std::find(out.begin(), out.end(), name) == out.end()) {
      out.push_back(std::move(name));
    }
  };
  const Renamings modules = renamings(*family, false, true);
  for (const auto& [from, to] : renamings(*family, true, true)) {
    if (begins_with(in_class, from)) {
      const std::string other = to + std::string(in_class.substr(from.size()));
      add(with_other_modules(other, modules));
      add(other);
    }
  }
  add(with_other_modules(in_class, modules));
  return out;
}

std::optional<TextClass> text_class(const model::Model& model, std::string_view head) {
  const auto prefix = model.prefixes.find("HF");
  if (model.family == nullptr || prefix == model.prefixes.end() || !prefix->second.ends_with('.')) {
    return std::nullopt;
  }
  const std::string in_files = prefix->second.substr(0, prefix->second.size() - 1);
  const std::string_view last = last_component(in_files);
  TextClass out;
  out.whole = class_name(model.family.get(), in_files);
  out.own = last == "language_model" ? "model" : std::string(last);
  out.whole_head = class_name(model.family.get(), module_of(head));
  return out.whole == out.own ? std::nullopt : std::optional(std::move(out));
}

std::optional<std::string> TextClass::to_whole(std::string_view name) const {
  if (begins_with(name, kOwnHead)) {
    return whole_head + std::string(name.substr(kOwnHead.size()));
  }
  return begins_with(name, own) ? std::optional(whole + std::string(name.substr(own.size())))
                                : std::nullopt;
}

std::string TextClass::to_own(std::string_view name) const {
  if (begins_with(name, whole_head)) {
    return std::string(kOwnHead) + std::string(name.substr(whole_head.size()));
  }
  return begins_with(name, whole) ? own + std::string(name.substr(whole.size())) : "";
}

std::vector<JoinedModules> joined_modules(const family::Family* family) {
  std::vector<JoinedModules> out;
  if (family == nullptr) {
    return out;
  }
  for (const auto& [files, own] : family->class_modules) {
    if (files.find(kJoint) == std::string::npos) {
      continue;
    }
    JoinedModules one{{}, own};
    for (std::size_t at = 0; at <= files.size();) {
      const std::size_t end = std::min(files.find(kJoint, at), files.size());
      one.in_files.push_back(files.substr(at, end - at));
      at = end + 1;
    }
    out.push_back(std::move(one));
  }
  return out;
}

std::vector<std::string> modules_in_files(const family::Family* family, std::string_view in_class) {
  for (const JoinedModules& one : joined_modules(family)) {
    if (one.in_class == last_component(in_class)) {
      return one.in_files;
    }
  }
  return {};
}

std::string joined_module(const family::Family* family, std::string_view module) {
  const std::string_view last = last_component(module);
  for (const JoinedModules& one : joined_modules(family)) {
    if (std::find(one.in_files.begin(), one.in_files.end(), last) != one.in_files.end()) {
      return std::string(module.substr(0, module.size() - last.size())) + one.in_class;
    }
  }
  return std::string(module);
}

}  // namespace bv::lora
