#include "core/convert/carry.hpp"

#include <fmt/format.h>

#include <algorithm>

#include "core/base/text.hpp"
#include "core/checkpoint/folder_names.hpp"
#include "core/io/fault_text.hpp"
#include "core/io/output_place.hpp"
#include "core/io/shard_index.hpp"
#include "core/io/writer.hpp"

namespace bv::convert {
namespace fs = std::filesystem;

namespace {

constexpr std::size_t kCarriedMax = 100'000;
constexpr std::size_t kDepthMax = 16;
constexpr std::size_t kShownMax = 4;

/// Names that stay behind for one reason, told in one sentence.
class LeftBehind {
 public:
  void add(const std::string& name) {
    ++count_;
    if (names_.size() < kShownMax) {
      names_.push_back(io::in_quotes(name));
    }
  }
  void tell(std::string_view why, std::vector<std::string>& notes) const {
    if (count_ == 0) {
      return;
    }
    const std::string more =
        count_ > names_.size() ? fmt::format(" and {} more", count_ - names_.size()) : "";
    notes.push_back(fmt::format("not carried along, {}: {}{}", why, join(names_, ", "), more));
  }

 private:
  std::size_t count_ = 0;
  std::vector<std::string> names_;
};

class Walker {
 public:
  Walker(fs::path folder, const std::set<std::string>& weights, bool follow_links)
      : folder_(std::move(folder)), weights_(weights), follow_links_(follow_links) {}

  Result<CarryPlan> run() {
    BV_TRY(boundary, io::link_boundary(folder_));
    boundary_ = boundary;
    BV_CHECK(walk("", 0));
    weights_left_.tell("weights that are not part of the model", out_.notes);
    hidden_.tell("hidden folders", out_.notes);
    links_.tell("links that lead out of the folder (--follow-links takes them)", out_.notes);
    broken_.tell("links to nothing", out_.notes);
    names_.tell("their names cannot be written again", out_.notes);
    special_.tell("not regular files", out_.notes);
    deep_.tell(fmt::format("folders nested deeper than {} levels", kDepthMax), out_.notes);
    return std::move(out_);
  }

 private:
  Status walk(const std::string& below, std::size_t depth) {
    std::vector<std::string> names;
    std::error_code error;
    const fs::path here = folder_ / below;
    fs::directory_iterator at(here, error);
    for (; !error && at != fs::directory_iterator(); at.increment(error)) {
      names.push_back(at->path().filename().string());
    }
    if (error) {
      return io::system_fault(error.value(), "listing", here, Code::ReadFailed)
          .at(io::printable_path(here));
    }
    std::sort(names.begin(), names.end());
    for (const std::string& name : names) {
      BV_CHECK(take(below.empty() ? name : below + "/" + name, name, depth));
    }
    return Done{};
  }

  Status take(const std::string& relative, const std::string& name, std::size_t depth) {
    if (weights_.contains(relative)) {
      return Done{};
    }
    const fs::path path = folder_ / relative;
    std::error_code error;
    const fs::file_status status = fs::status(path, error);
    if (status.type() == fs::file_type::not_found) {
      broken_.add(relative);
      return Done{};
    }
    if (error) {  // a loop of links, or a folder that cannot be entered
      return io::system_fault(error.value(), "looking at", path, Code::ReadFailed)
          .at(io::printable_path(path));
    }
    const bool is_folder = fs::is_directory(status);
    if (!is_folder && !fs::is_regular_file(status)) {
      special_.add(relative);
    } else if (checkpoint::is_weights_name(name) && !is_folder) {
      weights_left_.add(relative);
    } else if (is_folder && name.starts_with('.')) {
      hidden_.add(relative);
    } else if (!checkpoint::carried_fault(relative).empty()) {
      names_.add(relative);
    } else if (!may_follow(path, relative, is_folder)) {
      links_.add(relative);
    } else if (!is_folder) {
      return add(relative, path);
    } else if (depth + 1 >= kDepthMax) {
      deep_.add(relative);
    } else {
      return walk(relative, depth + 1);
    }
    return Done{};
  }

  /// Files behind links inside the boundary are the folder's own; folders behind links could hold
  /// the folder itself.
  [[nodiscard]] bool may_follow(const fs::path& path, const std::string& relative,
                                bool is_folder) const {
    if (is_folder && io::standing_at(path) == io::Standing::Link &&
        io::is_inside(path.parent_path(), path)) {
      return false;  // to a folder around it: without an end
    }
    if (follow_links_) {
      return true;
    }
    if (is_folder) {
      return io::standing_at(path) != io::Standing::Link;
    }
    const auto inside = io::resolve_inside(folder_, relative, boundary_);
    return inside && inside->has_value();
  }

  Status add(const std::string& relative, const fs::path& path) {
    if (out_.files.size() >= kCarriedMax) {
      return fail(Code::ReadFailed,
                  fmt::format("{} holds more than {} files beside its weights",
                              io::printable_path(folder_), thousands(kCarriedMax)))
          .at(io::printable_path(folder_))
          .advise("give the folder of the model alone");
    }
    std::error_code error;
    fs::path real = fs::canonical(path, error);
    if (error) {
      return io::system_fault(error.value(), "following links of", path, Code::ReadFailed)
          .at(io::printable_path(path));
    }
    out_.files[relative] = {std::move(real), std::nullopt};
    return Done{};
  }

  fs::path folder_;
  fs::path boundary_;
  const std::set<std::string>& weights_;
  bool follow_links_;
  CarryPlan out_;
  LeftBehind weights_left_, hidden_, links_, broken_, names_, special_, deep_;
};

}  // namespace

Result<CarryPlan> plan_carry(const fs::path& folder, const std::set<std::string>& weights,
                             bool follow_links) {
  return Walker(folder, weights, follow_links).run();
}

void add_names(const CarryPlan& plan, std::string_view below, std::set<std::string>& names) {
  for (const auto& [name, file] : plan.files) {
    names.insert((fs::path(below) / name).string());
  }
}

Result<std::uint64_t> carried_bytes(const CarryPlan& plan) {
  std::uint64_t out = 0;
  for (const auto& [name, file] : plan.files) {
    std::error_code error;
    const std::uint64_t size = file.text ? file.text->size() : fs::file_size(file.from, error);
    if (error) {
      return io::system_fault(error.value(), "looking at", file.from, Code::ReadFailed)
          .at(io::printable_path(file.from));
    }
    out += size;
  }
  return out;
}

Result<std::map<std::string, io::FilePrint>> carry(const CarryPlan& plan, const fs::path& to) {
  std::map<std::string, io::FilePrint> out;
  for (const auto& [name, file] : plan.files) {
    const fs::path path = to / name;
    std::error_code error;
    fs::create_directories(path.parent_path(), error);
    if (error) {
      return io::system_fault(error.value(), "creating", path.parent_path(), Code::WriteLost)
          .at(io::printable_path(path.parent_path()));
    }
    if (file.text) {
      BV_CHECK(io::write_file(path, *file.text));
      out[name] = io::print_of_text(*file.text);
    } else {
      BV_TRY(print, io::carry_file(file.from, path));
      out[name] = std::move(print);
    }
  }
  return out;
}

}  // namespace bv::convert
