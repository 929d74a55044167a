// libFuzzer entry for manifest.json of a Megatron folder (tests/fuzz/run.sh). Properties: every
// text is answered; no name of an accepted one leads out of the folder or takes another's place;
// what is accepted is written again as itself; what fits config and rules can be planned with.
#include <cstddef>
#include <cstdint>
#include <set>
#include <string_view>

#include "core/base/assert.hpp"
#include "tests/core/checkpoint/small_manifest.hpp"

namespace {

using bv::checkpoint::MegatronFolder;

/// Where every file would be written: inside, and each at a place of its own.
void check_names(const MegatronFolder& folder) {
  std::set<std::filesystem::path> places;
  const auto add = [&places](const std::filesystem::path& name) {
    BV_ASSERT(name.is_relative() && !name.empty());
    BV_ASSERT(name.lexically_normal() == name && *name.begin() != "..");
    BV_ASSERT(places.insert(name).second);
  };
  for (const auto& [name, metadata] : folder.hf_metadata) {
    add(name);
  }
  for (const auto& [name, print] : folder.carried) {
    add(name);
  }
  for (const auto& place : places) {
    for (auto above = place.parent_path(); !above.empty(); above = above.parent_path()) {
      BV_ASSERT(!places.contains(above));
    }
  }
  for (const auto& [name, tensors] : folder.digests) {
    BV_ASSERT(name.find('/') == std::string::npos);
  }
}

void check_fits(MegatronFolder folder) {
  static const auto config = bv::checkpoint::testing::small_config();
  const auto& kinds = bv::checkpoint::testing::catalogue();
  const auto fits = bv::checkpoint::fit_manifest(
      folder, config, bv::checkpoint::testing::families(), kinds, {}, "fuzz");
  if (!fits) {
    BV_ASSERT(!fits.error().message.empty() && !fits.error().help.empty());
    BV_ASSERT(static_cast<int>(fits.error().code) >= 1000);  // never the command line's fault
    return;
  }
  const auto plan = bv::plan::Plan::make(folder.model, kinds, folder.layout);
  BV_ASSERT(plan && plan->files().size() == folder.digests.size());
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const std::string_view text(reinterpret_cast<const char*>(data), size);
  auto read = bv::checkpoint::parse_manifest(text, "fuzz");
  if (!read) {
    BV_ASSERT(!read.error().message.empty() && !read.error().help.empty());
    return 0;
  }
  check_names(*read);
  const std::string written = bv::checkpoint::manifest_text(*read);
  const auto again = bv::checkpoint::parse_manifest(written, "fuzz");
  BV_ASSERT(again && bv::checkpoint::manifest_text(*again) == written);
  check_fits(std::move(*read));
  return 0;
}
