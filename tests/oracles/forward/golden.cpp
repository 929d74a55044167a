#include "tests/oracles/forward/golden.hpp"

#include <algorithm>
#include <bit>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>
#include <sstream>
#include <stdexcept>

namespace bv::oracle::forward::golden {
namespace {

template <class T>
T number_at(const std::string& bytes, std::size_t offset) {
  T value;
  std::memcpy(&value, bytes.data() + offset, sizeof(T));
  return value;
}

double widened(const std::string& dtype, const std::string& bytes, std::size_t begin,
               std::size_t i) {
  if (dtype == "F64") return number_at<double>(bytes, begin + 8 * i);
  if (dtype == "F32") return static_cast<double>(number_at<float>(bytes, begin + 4 * i));
  if (dtype == "I64") return static_cast<double>(number_at<std::int64_t>(bytes, begin + 8 * i));
  if (dtype == "BF16") {
    const std::uint32_t high = number_at<std::uint16_t>(bytes, begin + 2 * i);
    return static_cast<double>(std::bit_cast<float>(high << 16U));
  }
  throw std::runtime_error("golden file of type " + dtype);
}

std::int64_t number_after(const std::string& stem, const std::string& key) {
  const auto at = stem.find(key);
  return at == std::string::npos ? 0 : std::stoll(stem.substr(at + key.size()));
}

}  // namespace

std::string root() {
  return std::string(BV_FIXTURES) + "/golden/";
}

std::string read_text(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  if (!file) throw std::runtime_error("no golden file " + path);
  std::ostringstream text;
  text << file.rdbuf();
  return text.str();
}

NamedTensors read_file(const std::string& path) {
  const std::string bytes = read_text(path);
  const auto header_bytes = number_at<std::uint64_t>(bytes, 0);
  const auto header = nlohmann::json::parse(bytes.substr(8, header_bytes));
  NamedTensors out;
  for (const auto& [name, entry] : header.items()) {
    if (name == "__metadata__") continue;
    Tensor tensor;
    tensor.shape = entry.at("shape").get<std::vector<std::int64_t>>();
    std::size_t count = 1;
    for (const auto extent : tensor.shape) count *= static_cast<std::size_t>(extent);
    const auto begin = 8 + header_bytes + entry.at("data_offsets").at(0).get<std::size_t>();
    for (std::size_t i = 0; i < count; ++i) {
      tensor.values.push_back(widened(entry.at("dtype").get<std::string>(), bytes, begin, i));
    }
    out.emplace(name, std::move(tensor));
  }
  return out;
}

NamedTensors read_checkpoint(const std::string& name) {
  NamedTensors out;
  for (const auto& entry : std::filesystem::directory_iterator(root() + "hf/" + name)) {
    const std::string file = entry.path().filename().string();
    if (file.starts_with("model") && file.ends_with(".safetensors"))
      out.merge(read_file(entry.path().string()));
  }
  return out;
}

ModelFacts facts_of(const std::string& name) {
  auto facts = read_facts(read_text(root() + "hf/" + name + "/config.json"));
  if (!facts)
    throw std::runtime_error(name + ": " + facts.error().message + ": " + facts.error().found);
  return std::move(facts).value();
}

NamedTensors vectors_of(const std::string& name) {
  return read_file(root() + "hf/" + name + "/forward.safetensors");
}

Inputs text_inputs(const NamedTensors& vectors) {
  Inputs inputs;
  for (const double id : vectors.at("input_ids").values)
    inputs.input_ids.push_back(static_cast<std::int64_t>(id));
  return inputs;
}

Inputs image_inputs(const NamedTensors& vectors) {
  Inputs inputs;
  for (const double id : vectors.at("image.input_ids").values) {
    inputs.input_ids.push_back(static_cast<std::int64_t>(id));
  }
  const auto& grid = vectors.at("image.image_grid_thw").values;
  inputs.images.pixel_values = vectors.at("image.pixel_values");
  for (std::size_t i = 0; i + 2 < grid.size(); i += 3) {
    inputs.images.grid_thw.push_back({static_cast<std::int64_t>(grid[i]),
                                      static_cast<std::int64_t>(grid[i + 1]),
                                      static_cast<std::int64_t>(grid[i + 2])});
  }
  return inputs;
}

std::vector<RankTensors> read_shards(const std::string& name, const std::string& layout) {
  std::vector<RankTensors> out;
  for (const auto& entry :
       std::filesystem::directory_iterator(root() + "megatron/" + name + "/" + layout)) {
    const std::string stem = entry.path().stem().string();
    out.push_back({number_after(stem, "pp"), number_after(stem, "_tp"), number_after(stem, "_ep"),
                   number_after(stem, "_etp"), number_after(stem, "_vpp"),
                   read_file(entry.path().string())});
  }
  return out;
}

Tensor squeezed(const Tensor& tensor, std::size_t ndim) {
  Tensor out = tensor;
  while (out.shape.size() > ndim && out.shape.front() == 1) out.shape.erase(out.shape.begin());
  return out;
}

}  // namespace bv::oracle::forward::golden
