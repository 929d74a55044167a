#include "ci/cli/session/diff_sides.hpp"

#include <fmt/format.h>

#include "core/base/shell.hpp"
#include "core/base/text.hpp"
#include "core/io/locate.hpp"

namespace bv::cli {
namespace fs = std::filesystem;

std::map<std::string, fs::path> shards_in(const fs::path& folder) {
  std::map<std::string, fs::path> out;
  std::error_code error;
  fs::directory_iterator at(folder, error);
  for (; !error && at != fs::directory_iterator(); at.increment(error)) {
    const fs::path& path = at->path();
    if (path.extension() == ".safetensors" && parallel::shard_from_name(path.stem().string())) {
      out.emplace(path.stem().string(), path);
    }
  }
  return out;
}

std::optional<fs::path> torch_dist_in(const std::string& reference) {
  std::error_code ignored;
  if (!fs::is_directory(reference, ignored)) {
    return std::nullopt;
  }
  const auto located = io::classify_path(reference);
  return located && located->kind == io::ModelKind::TorchDist ? std::optional(located->path)
                                                              : std::nullopt;
}

Status shapes_right(const checkpoint::HfModel& hf, const plan::Plan& plan) {
  for (const model::Mapping& mapping : hf.model.mappings) {
    const auto& shapes = plan.hf_shapes(mapping);
    for (std::size_t i = 0; i < mapping.hf.size(); ++i) {
      const Shape& found = hf.headers.find(mapping.hf[i])->second.shape;
      if (found != shapes[i]) {
        return fail(Code::ConfigField,
                    fmt::format("{} of A does not have the shape that its config states",
                                escaped(mapping.hf[i])))
            .pair(shape_text(found), shape_text(shapes[i]))
            .advise("bridge-verify check --model " + shell_quoted(hf.folder.string()));
      }
    }
  }
  return Done{};
}

}  // namespace bv::cli
