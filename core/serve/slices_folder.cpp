#include "core/serve/slices_folder.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <charconv>
#include <nlohmann/json.hpp>

#include "core/io/fault_text.hpp"
#include "core/io/weights_listing.hpp"
#include "core/io/writer.hpp"
#include "core/serve/pieces.hpp"

namespace bv::lora {
namespace fs = std::filesystem;

namespace {

constexpr std::uint64_t kBytesMax = std::uint64_t{64} << 20;
constexpr std::int64_t kNumberMax = std::int64_t{1} << 31;

Error unusable(const fs::path& file, const std::string& what) {
  return fail(Code::AdapterInvalid,
              fmt::format("{} cannot be used: {}", io::printable_path(file), what))
      .at(io::printable_path(file))
      .pair(what, fmt::format("slices.json of lora slice ({})", kSlicesSchema))
      .advise("copy it again from where lora slice wrote it, or slice the adapter again");
}

Result<Serving> read_serving(const fs::path& file, const std::string& text) {
  const auto json = nlohmann::json::parse(text, nullptr, false);
  if (!json.is_object()) {
    return unusable(file, json.is_discarded() ? "it is not JSON" : "it is not a JSON object");
  }
  if (const auto schema = json.find("schema"); schema == json.end() || *schema != kSlicesSchema) {
    return unusable(file, "it has another schema");
  }
  const auto number = [&](const char* name) -> std::int64_t {
    const auto at = json.find(name);
    const bool right = at != json.end() && at->is_number_integer() && *at >= 1 && *at <= kNumberMax;
    return right ? at->get<std::int64_t>() : 0;
  };
  const auto sharded = json.find("fully_sharded");
  Serving out{number("tp"), false, number("max_rank")};
  if (out.tp == 0 || out.rank_max == 0 || sharded == json.end() || !sharded->is_boolean()) {
    return unusable(file, "tp, max_rank or fully_sharded is missing or no such value");
  }
  out.fully_sharded = sharded->get<bool>();
  return out;
}

/// The number of "tp7.safetensors".
std::optional<std::size_t> rank_of(const std::string& name) {
  constexpr std::string_view kStart = "tp";
  std::size_t out = 0;
  const char* const end = name.data() + name.size();
  if (!name.starts_with(kStart) ||
      std::from_chars(name.data() + kStart.size(), end, out).ec != std::errc() ||
      name != rank_file(out)) {
    return std::nullopt;
  }
  return out;
}

}  // namespace

Result<SlicesFolder> open_slices(const fs::path& folder) {
  SlicesFolder out;
  const fs::path file = folder / kSlicesName;
  auto text = io::read_file(file, kBytesMax, Code::AdapterInvalid);
  if (!text) {
    Error error = std::move(text).error();
    error.help = "give the folder that lora slice wrote";
    return error;
  }
  out.text = std::move(*text);
  BV_TRY(serving, read_serving(file, out.text));
  out.serving = serving;
  BV_TRY(listing, io::list_folder(folder));
  for (const std::string& name : listing.safetensors) {
    if (const auto rank = rank_of(name)) {
      out.ranks.push_back(*rank);
    }
  }
  std::sort(out.ranks.begin(), out.ranks.end());
  for (const std::size_t rank : out.ranks) {
    BV_TRY(opened, io::Checkpoint::open(folder / rank_file(rank)));
    out.files.push_back(std::move(opened));
  }
  return out;
}

}  // namespace bv::lora
