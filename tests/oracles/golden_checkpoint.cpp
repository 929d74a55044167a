#include "golden_checkpoint.hpp"

#include <bit>
#include <cstring>
#include <fstream>
#include <nlohmann/json.hpp>
#include <sstream>

#include "tagging.hpp"

namespace bv::oracle {
namespace {

float widened(std::uint16_t bf16) {
  return std::bit_cast<float>(static_cast<std::uint32_t>(bf16) << 16);
}

/// Round to nearest, ties to even; the values here are finite.
std::uint16_t narrowed(float value) {
  const auto bits = std::bit_cast<std::uint32_t>(value);
  return static_cast<std::uint16_t>((bits + 0x7fffU + ((bits >> 16) & 1U)) >> 16);
}

float element(const StoredTensor& tensor, std::size_t index) {
  if (tensor.dtype == "BF16") {
    std::uint16_t bits = 0;
    std::memcpy(&bits, tensor.bytes.data() + 2 * index, 2);
    return widened(bits);
  }
  float value = 0;
  std::memcpy(&value, tensor.bytes.data() + 4 * index, 4);
  return value;
}

float less_one(float value, const std::string& dtype) {
  return dtype == "BF16" ? widened(narrowed(value - 1.0F)) : value - 1.0F;
}

}  // namespace

StoredTensors read_file(const std::filesystem::path& path) {
  std::ifstream file(path, std::ios::binary);
  std::ostringstream text;
  text << file.rdbuf();
  const std::string all = text.str();
  std::uint64_t header_bytes = 0;
  std::memcpy(&header_bytes, all.data(), 8);
  StoredTensors out;
  const nlohmann::json header = nlohmann::json::parse(all.substr(8, header_bytes));
  for (const auto& [name, spec] : header.items()) {
    if (name == "__metadata__") {
      continue;
    }
    const std::size_t begin = spec.at("data_offsets").at(0);
    const std::size_t end = spec.at("data_offsets").at(1);
    out[name] = {spec.at("dtype"), spec.at("shape"),
                 all.substr(8 + header_bytes + begin, end - begin)};
  }
  return out;
}

StoredTensors read_checkpoint(const std::filesystem::path& folder) {
  StoredTensors out;
  for (const auto& entry : std::filesystem::directory_iterator(folder)) {
    if (entry.path().extension() == ".safetensors" &&
        entry.path().filename().string().starts_with("model")) {
      out.merge(read_file(entry.path()));
    }
  }
  return out;
}

std::string gathered(const std::vector<std::int64_t>& tags,
                     const std::vector<const StoredTensor*>& sources, const std::string& dtype,
                     bool minus_one) {
  std::string bytes;
  bytes.reserve(tags.size() * 4);
  for (const std::int64_t tag : tags) {
    float value = 0;
    if (tag >= 0) {
      const StoredTensor& source = *sources.at(static_cast<std::size_t>(tag / kTensorStride));
      value = element(source, static_cast<std::size_t>(tag % kTensorStride));
      value = minus_one ? less_one(value, source.dtype) : value;
    }
    if (dtype == "BF16") {
      const std::uint16_t bits = narrowed(value);
      bytes.append(reinterpret_cast<const char*>(&bits), 2);
    } else {
      bytes.append(reinterpret_cast<const char*>(&value), 4);
    }
  }
  return bytes;
}

}  // namespace bv::oracle
