#include "core/lora/class_names.hpp"

namespace bv::lora {
namespace {

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

}  // namespace

std::string class_name(const family::Family* family, std::string_view in_file) {
  if (family != nullptr) {
    for (const auto& [file, own] : family->class_modules) {
      if (auto renamed = with_components(in_file, file, own)) {
        return *renamed;
      }
    }
  }
  return std::string(in_file);
}

std::optional<std::string> file_name(const family::Family* family, std::string_view in_class) {
  if (family != nullptr) {
    for (const auto& [file, own] : family->class_modules) {
      if (auto renamed = with_components(in_class, own, file)) {
        return renamed;
      }
    }
  }
  return std::nullopt;
}

}  // namespace bv::lora
