#include "tests/oracles/forward/golden.hpp"

#include <fmt/format.h>
#include <stdlib.h>
#include <sys/wait.h>
#define XXH_INLINE_ALL
#include <xxhash.h>

#include <algorithm>
#include <bit>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <map>
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

namespace {

/// The options of convert that ask for the layout of a run.
std::string options_of(const nlohmann::json& run) {
  std::string out = run.at("params_dtype") == "BF16" ? " --dtype bfloat16" : " --dtype float32";
  for (const auto& [axis, size] : run.at("layout").items()) {
    out += " --" + axis + " " + size.dump();
  }
  const nlohmann::json& settings = run.at("settings");
  if (settings.contains("make_vocab_size_divisible_by")) {
    out += " --make-vocab-size-divisible-by " + settings.at("make_vocab_size_divisible_by").dump();
  }
  return out;
}

/// A folder of its own, removed with what is in it.
struct MadeFolder {
  std::filesystem::path path;
  MadeFolder() {
    std::string text = (std::filesystem::temp_directory_path() / "bv-shards-XXXXXX").string();
    if (mkdtemp(text.data()) == nullptr) throw std::runtime_error("no folder " + text);
    path = text;
  }
  MadeFolder(const MadeFolder&) = delete;
  MadeFolder& operator=(const MadeFolder&) = delete;
  ~MadeFolder() {
    std::error_code ignored;
    std::filesystem::remove_all(path, ignored);
  }
};

void expect_digests(const nlohmann::json& wanted, const std::string& path) {
  const std::string bytes = read_text(path);
  const auto header_bytes = number_at<std::uint64_t>(bytes, 0);
  const auto header = nlohmann::json::parse(bytes.substr(8, header_bytes));
  for (const auto& [name, row] : wanted.items()) {
    const std::size_t begin = header.at(name).at("data_offsets").at(0);
    const std::size_t end = header.at(name).at("data_offsets").at(1);
    const XXH128_hash_t hash = XXH3_128bits(bytes.data() + 8 + header_bytes + begin, end - begin);
    if (fmt::format("{:016x}{:016x}", hash.high64, hash.low64) != row.at(2)) {
      throw std::runtime_error(name + " in " + path + " is not what the real bridge wrote");
    }
  }
}

std::vector<RankTensors> made_shards(const std::string& name, const std::string& layout) {
  const auto run =
      nlohmann::json::parse(read_text(root() + "megatron/" + name + "/" + layout + ".json"));
  const MadeFolder made;
  const std::string folder = (made.path / "shards").string();
  const std::string line = std::string(BV_BINARY) + " convert --to megatron --model " + root() +
                           "hf/" + name + " --out " + folder + options_of(run) +
                           " --quiet > /dev/null 2>&1";
  // 1: written, and a norm does not come back bit for bit, as with the real bridge.
  const int status = std::system(line.c_str());
  if (!WIFEXITED(status) || WEXITSTATUS(status) > 1) {
    throw std::runtime_error("this failed: " + line);
  }
  std::vector<RankTensors> out;
  for (const auto& shard : run.at("shards")) {
    RankTensors rank{shard.at("pp"), shard.at("tp"), shard.at("ep"), shard.at("etp"), 0, {}};
    const std::string path = fmt::format("{}/pp{}_tp{}_ep{}_etp{}.safetensors", folder, rank.pp,
                                         rank.tp, rank.ep, rank.etp);
    expect_digests(shard.at("tensors"), path);
    rank.tensors = read_file(path);
    out.push_back(std::move(rank));
  }
  return out;
}

}  // namespace

std::vector<RankTensors> read_shards(const std::string& name, const std::string& layout) {
  static std::map<std::string, std::vector<RankTensors>> made;  // many tests read the same
  const auto [at, fresh] = made.try_emplace(name + "/" + layout);
  if (fresh) at->second = made_shards(name, layout);
  return at->second;
}

Tensor squeezed(const Tensor& tensor, std::size_t ndim) {
  Tensor out = tensor;
  while (out.shape.size() > ndim && out.shape.front() == 1) out.shape.erase(out.shape.begin());
  return out;
}

}  // namespace bv::oracle::forward::golden
