#include "ci/cli/session/in_checkout.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <map>
#include <set>
#include <string>
#include <string_view>
#include <system_error>

#include "core/io/entry.hpp"
#include "core/verdict/source_place.hpp"

namespace bv::cli {
namespace fs = std::filesystem;
namespace {

constexpr std::size_t kEntriesMax = 200'000;  // looked at below a root
constexpr int kDepthMax = 16;

fs::path root_of(const fs::path& folder) {
  for (fs::path at = folder; !at.empty(); at = at.parent_path()) {
    if (io::has_entry(at / ".git")) {
      return at;
    }
    if (at == at.root_path()) {
      break;
    }
  }
  return {};
}

/// Folders that no rule of the checkout is written in.
bool is_passed_over(const fs::path& folder) {
  constexpr std::array<std::string_view, 3> kInstalled = {"site-packages", "dist-packages",
                                                          "node_modules"};
  const std::string name = folder.filename().string();
  std::error_code ignored;
  return name.starts_with('.') ||
         std::find(kInstalled.begin(), kInstalled.end(), name) != kInstalled.end() ||
         fs::exists(folder / "pyvenv.cfg", ignored);
}

/// Names files of one checkout.
class Checkout {
 public:
  explicit Checkout(const fs::path& folder)
      : folder_(real(folder)), repository_(root_of(folder_)) {}

  /// The file below the root; "" when it is not found there.
  std::string find(const std::string& file) {
    const auto [known, fresh] = known_.try_emplace(file);
    if (fresh) {
      known->second = found(file);
    }
    return known->second;
  }

  /// As find(), and else the one file anywhere in the repository that ends like this.
  std::string find_anywhere(const std::string& file) {
    std::string out = find(file);
    const fs::path path(file);
    if (!out.empty() || repository_.empty() || path.is_absolute() || file.empty()) {
      return out;
    }
    const auto [known, fresh] = known_anywhere_.try_emplace(file);
    if (fresh) {
      list();
      const auto [first, last] = listed_.equal_range(path.filename().string());
      std::set<std::string> ending;
      for (auto at = first; at != last; ++at) {
        if (at->second == file || at->second.ends_with("/" + file)) {
          ending.insert(at->second);
        }
      }
      known->second = ending.size() == 1 ? *ending.begin() : "";
    }
    return known->second;
  }

 private:
  static fs::path real(const fs::path& path) {
    std::error_code failed;
    fs::path out = fs::weakly_canonical(path, failed);
    return failed ? path : out;
  }

  [[nodiscard]] const fs::path& root() const { return repository_.empty() ? folder_ : repository_; }

  [[nodiscard]] std::string below_root(const fs::path& path) const {
    std::error_code failed;
    if (!fs::is_regular_file(path, failed)) {
      return "";
    }
    const fs::path out = real(path).lexically_relative(root());
    return out.empty() || *out.begin() == ".." ? "" : out.generic_string();
  }

  [[nodiscard]] std::string found(const std::string& file) const {
    if (file.empty()) {
      return "";
    }
    for (const fs::path& base : {folder_, folder_ / "src", root(), root() / "src"}) {
      if (std::string out = below_root(base / file);
          !out.empty()) {  // an absolute one stands alone
        return out;
      }
    }
    return "";
  }

  /// Every source of the repository, once.
  void list() {
    if (listed_once_) {
      return;
    }
    listed_once_ = true;
    std::error_code failed;
    fs::recursive_directory_iterator at(repository_, fs::directory_options::skip_permission_denied,
                                        failed);
    for (std::size_t n = 0; !failed && at != fs::recursive_directory_iterator();
         at.increment(failed)) {
      if (++n > kEntriesMax) {
        listed_.clear();  // whether a name is there once cannot be said
        return;
      }
      std::error_code ignored;
      if (at->is_directory(ignored) &&
          (at->is_symlink(ignored) || is_passed_over(at->path()) || at.depth() >= kDepthMax)) {
        at.disable_recursion_pending();
      } else if (at->path().extension() == ".py" && at->is_regular_file(ignored)) {
        listed_.emplace(at->path().filename().string(),
                        at->path().lexically_relative(repository_).generic_string());
      }
    }
  }

  fs::path folder_, repository_;
  std::map<std::string, std::string> known_, known_anywhere_;
  std::multimap<std::string, std::string> listed_;  // file name -> below the root
  bool listed_once_ = false;
};

bool is_green(const Verdict& verdict) {
  return verdict.outcome == Outcome::Proved || verdict.outcome == Outcome::Held;
}

/// The place of a verdict in the checkout; "" when it stays as it is recorded. Only what is not
/// green is worth a look at every file.
std::string renamed(const Verdict& verdict, Checkout& checkout) {
  const SourcePlace place = source_place_of(verdict);
  const bool everywhere = place.line > 0 && !is_green(verdict);
  const std::string file =
      everywhere ? checkout.find_anywhere(place.file) : checkout.find(place.file);
  return file.empty() || file == place.file ? ""
         : place.line > 0                   ? fmt::format("{}:{}", file, place.line)
                                            : file + verdict.rule_source.substr(place.file.size());
}

/// The place of a message; "" when it stays.
std::string renamed(const Error& error, Checkout& checkout) {
  const SourcePlace place = source_place(error.where);
  const std::string file = checkout.find(place.file);
  return file.empty() || file == place.file ? "" : file + error.where.substr(place.file.size());
}

}  // namespace

const Run& InCheckout::for_form(const reports::Format& format) const {
  if (!format.in_repository || folder_.empty()) {
    return run_;
  }
  if (!looked_) {
    looked_ = true;
    Checkout checkout(folder_);
    for (std::size_t i = 0; i < run_.verdicts.size(); ++i) {
      if (std::string place = renamed(run_.verdicts[i], checkout); !place.empty()) {
        own().verdicts[i].rule_source = std::move(place);
      }
    }
    for (const auto list : {&Run::input_errors, &Run::warnings}) {
      for (std::size_t i = 0; i < (run_.*list).size(); ++i) {
        if (std::string place = renamed((run_.*list)[i], checkout); !place.empty()) {
          (own().*list)[i].where = std::move(place);
        }
      }
    }
  }
  return named_ ? *named_ : run_;
}

Run& InCheckout::own() const {
  return named_ ? *named_ : named_.emplace(run_);
}

}  // namespace bv::cli
