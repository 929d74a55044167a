#pragma once
// `--model fixture:NAME`: a built-in fixture, made in a private temporary folder.

#include <filesystem>
#include <memory>

#include "ci/cli/session/session.hpp"

namespace bv::cli {

/// The name behind "fixture:", or nothing for any other reference.
[[nodiscard]] std::optional<std::string> fixture_name(std::string_view reference);

/// A new folder below TMPDIR (or /tmp), this user's alone, removed with its last owner. Errors:
/// PermissionDenied, DiskFull.
struct PrivateFolder {
  std::filesystem::path folder;
  std::shared_ptr<void> keeps;
};
[[nodiscard]] Result<PrivateFolder> make_private_folder(const Context& context,
                                                        std::string_view purpose);

/// A made fixture; its folder is removed with the last owner.
struct MadeFixture {
  std::filesystem::path folder;
  std::shared_ptr<void> keeps;
};
/// Made below TMPDIR (or /tmp) with --seed, readable by this user alone. `--set` is left to the
/// reader of the config. Errors: BadValue with the nearest name; PermissionDenied, DiskFull.
[[nodiscard]] Result<MadeFixture> make_fixture(const Context& context, const Options& options,
                                               const Library& library, const std::string& name);

/// What `locate` finds, or a fixture made for the purpose: it lives as long as the value.
struct FoundModel {
  io::LocatedModel located;
  std::shared_ptr<void> keeps;
};
/// Errors: those of locate and make_fixture.
[[nodiscard]] Result<FoundModel> find_model(const Context& context, const Options& options);

}  // namespace bv::cli
