#include "core/checkpoint/folder_names.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <climits>

#include "core/io/fault_text.hpp"
#include "core/io/utf8.hpp"

namespace bv::checkpoint {
namespace {

constexpr std::size_t kComponentMax = 255;
constexpr std::array<std::string_view, 8> kWeights = {
    ".safetensors", ".bin", ".pt", ".pth", ".gguf", ".h5", ".msgpack", ".distcp"};

std::string_view component_fault(std::string_view component) {
  if (component.empty()) {
    return "holds an empty component";
  }
  if (component == "." || component == "..") {
    return "climbs or stands still";
  }
  if (component.size() > kComponentMax) {
    return "holds a component that is longer than a file name may be";
  }
  return component.starts_with(".bv-") ? "is named like an unfinished file of bridge-verify" : "";
}

}  // namespace

bool is_weights_name(std::string_view name) {
  return std::any_of(kWeights.begin(), kWeights.end(),
                     [name](std::string_view ending) { return name.ends_with(ending); });
}

std::string_view path_fault(std::string_view name) {
  if (name.empty()) {
    return "is empty";
  }
  if (name.size() >= PATH_MAX / 2) {
    return "is longer than a path may be";
  }
  if (io::first_invalid_utf8(name) != std::string_view::npos) {
    return "is not UTF-8";
  }
  if (name.find('\0') != std::string_view::npos) {
    return "holds a NUL character";
  }
  if (name.find('\\') != std::string_view::npos) {
    return "holds a backslash";
  }
  if (name.front() == '/') {
    return "is an absolute path";
  }
  std::string_view fault;
  for (std::size_t at = 0; at <= name.size() && fault.empty();) {
    const std::size_t end = std::min(name.find('/', at), name.size());
    fault = component_fault(name.substr(at, end - at));
    at = end + 1;
  }
  return fault;
}

std::string_view carried_fault(std::string_view name) {
  if (const std::string_view fault = path_fault(name); !fault.empty()) {
    return fault;
  }
  if (is_weights_name(name)) {
    return "is named like a file of weights";
  }
  const bool ours = name == kManifestName || name == kCarriedFolder || name.starts_with("hf/");
  return ours ? "is named like a file of a Megatron folder" : "";
}

Status check_disjoint(const std::vector<std::string>& weights,
                      const std::vector<std::string>& carried, const std::string& file) {
  std::vector<std::string> all = weights;
  all.insert(all.end(), carried.begin(), carried.end());
  std::sort(all.begin(), all.end());
  const auto refuse = [&file](const std::string& a, const std::string& b) {
    return fail(Code::ManifestInvalid,
                fmt::format("{} names the files {} and {}, which cannot both "
                            "be written",
                            file, io::in_quotes(a), io::in_quotes(b)))
        .at(file)
        .pair(io::in_quotes(a) + " and " + io::in_quotes(b), "a name of its own for each file")
        .advise("convert the HF directory again; a manifest is not edited by hand");
  };
  for (std::size_t i = 0; i + 1 < all.size(); ++i) {
    if (all[i] == all[i + 1]) {
      return refuse(all[i], all[i + 1]);
    }
  }
  for (const std::string& name : all) {
    for (std::size_t slash = name.find('/'); slash != std::string::npos;
         slash = name.find('/', slash + 1)) {
      const std::string folder = name.substr(0, slash);
      if (std::binary_search(all.begin(), all.end(), folder)) {
        return refuse(folder, name);
      }
    }
  }
  return Done{};
}

}  // namespace bv::checkpoint
