#include "core/convert/carried_index.hpp"

#include <fmt/format.h>

#include <nlohmann/json.hpp>
#include <utility>

#include "core/base/json_text.hpp"
#include "core/io/torch_shard.hpp"
#include "core/io/weights_listing.hpp"
#include "core/io/writer.hpp"

namespace bv::convert {
namespace fs = std::filesystem;

namespace {

constexpr std::uint64_t kIndexBytesMax = std::uint64_t{256} << 20;

/// The index of torch files as that of the safetensors that are written.
Result<std::string> index_of_safetensors(const std::string& original) {
  try {
    auto json = nlohmann::ordered_json::parse(original);
    for (auto& file : json.at("weight_map")) {
      file = io::safetensors_name(file.get<std::string>());
    }
    return visible_json(json.dump(2)) + "\n";
  } catch (const std::exception& problem) {  // it was read before, but by another reader
    return cannot_write_index(problem);
  }
}

}  // namespace

Error cannot_write_index(const std::exception& problem) {
  return fail(Code::IndexInvalid, fmt::format("the index cannot be written: {}", problem.what()))
      .advise("write the index again");
}

Result<std::string> text_of(const CarriedFile& file) {
  if (file.text) {
    return *file.text;
  }
  return io::read_file(file.from, kIndexBytesMax, Code::IndexInvalid);
}

Result<CarriedFile*> carried_index(CarryPlan& carried, const fs::path& folder) {
  BV_TRY(listing, io::list_folder(folder));
  BV_TRY(place, io::place_weights(listing, folder));
  const auto index = carried.files.find(place.index);
  if (index == carried.files.end()) {
    return static_cast<CarriedFile*>(nullptr);
  }
  const std::string name = io::safetensors_index_name(place.index);
  if (name == place.index) {
    return &index->second;
  }
  BV_TRY(text, text_of(index->second));
  BV_TRY(renamed, index_of_safetensors(text));
  CarriedFile file = std::move(index->second);
  file.text = std::move(renamed);
  carried.files.erase(index);
  return &(carried.files[name] = std::move(file));
}

}  // namespace bv::convert
