#include "ci/cli/session/fixture_model.hpp"

#include <fmt/format.h>
#include <unistd.h>

#include <cerrno>
#include <cstdlib>
#include <cstring>

#include "ci/cli/session/signals.hpp"
#include "fixtures/maker/maker.hpp"

namespace bv::cli {
namespace fs = std::filesystem;

namespace {

/// A new folder that goes away with the value, whatever is in it.
class TemporaryFolder {
 public:
  explicit TemporaryFolder(fs::path path) : path_(std::move(path)) {}
  ~TemporaryFolder() {
    std::error_code ignored;
    fs::remove_all(path_, ignored);
  }
  TemporaryFolder(const TemporaryFolder&) = delete;
  TemporaryFolder& operator=(const TemporaryFolder&) = delete;

 private:
  fs::path path_;
};

}  // namespace

std::optional<std::string> fixture_name(std::string_view reference) {
  constexpr std::string_view kScheme = "fixture:";
  return reference.starts_with(kScheme)
             ? std::optional(std::string(reference.substr(kScheme.size())))
             : std::nullopt;
}

Result<MadeFixture> make_fixture(const Context& context, const Options& options,
                                 const Library& library, const std::string& name) {
  BV_TRY(fixture, fixtures::builtin_fixture(name));
  BV_TRY(plan, fixtures::plan_checkpoint(fixture, library.families, library.kinds));
  BV_TRY(made, make_private_folder(context, "fixture"));
  MadeFixture out{made.folder, made.keeps};
  BV_CHECK(fixtures::write_checkpoint(plan, options.seed.value_or(0), out.folder,
                                      [] { return stop_requested() != 0; }));
  return out;
}

Result<PrivateFolder> make_private_folder(const Context& context, std::string_view purpose) {
  const std::string_view base = variable(context.environment, "TMPDIR");
  std::string folder =
      fmt::format("{}/bridge-verify-{}-XXXXXX", base.empty() ? "/tmp" : base, purpose);
  if (::mkdtemp(folder.data()) == nullptr) {  // mode 0700
    const bool full = errno == ENOSPC;
    return fail(full ? Code::DiskFull : Code::PermissionDenied,
                fmt::format("cannot make a temporary folder {}: {}", folder, std::strerror(errno)))
        .advise("set TMPDIR to a folder that can be written");
  }
  return PrivateFolder{folder, std::make_shared<TemporaryFolder>(folder)};
}

Result<FoundModel> find_model(const Context& context, const Options& options) {
  const auto fixture = options.headers.empty() ? fixture_name(options.model) : std::nullopt;
  if (!fixture) {
    BV_TRY(located, locate(context, options));
    return FoundModel{std::move(located), nullptr};
  }
  BV_TRY(library, load_library(options));
  BV_TRY(made, make_fixture(context, options, library, *fixture));
  BV_TRY(located, io::classify_path(made.folder));
  return FoundModel{std::move(located), std::move(made.keeps)};
}

}  // namespace bv::cli
