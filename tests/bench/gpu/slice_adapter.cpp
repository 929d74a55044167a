#include "tests/bench/gpu/slice_adapter.hpp"

#include <fmt/format.h>

#include <array>
#include <cstring>
#include <fstream>
#include <map>
#include <nlohmann/json.hpp>
#include <set>
#include <string>
#include <vector>

namespace bv::cuda {
namespace {

namespace fs = std::filesystem;
using nlohmann::json;
using Shape = std::vector<std::int64_t>;

constexpr std::uint64_t kHeaderMax = std::uint64_t{100} << 20;
constexpr std::string_view kPrefix = "base_model.model.";

/// Names and shapes of all tensors of a folder; nothing where a file is no safetensors file.
std::map<std::string, Shape> shapes_of(const fs::path& folder) {
  std::map<std::string, Shape> out;
  std::error_code ignored;
  for (const fs::directory_entry& file : fs::directory_iterator(folder, ignored)) {
    if (file.path().extension() != ".safetensors") {
      continue;
    }
    std::ifstream in(file.path(), std::ios::binary);
    std::uint64_t size = 0;
    in.read(reinterpret_cast<char*>(&size), sizeof size);
    std::string text(size <= kHeaderMax ? size : 0, ' ');
    in.read(text.data(), static_cast<std::streamsize>(text.size()));
    const json header = json::parse(text, nullptr, false);
    for (const auto& [name, tensor] : header.items()) {
      if (name != "__metadata__" && tensor.contains("shape")) {
        out[name] = tensor["shape"].get<Shape>();
      }
    }
  }
  return out;
}

std::string last_of(const std::string& name) {
  return name.substr(name.rfind('.') + 1);
}

/// Factors by name, in the order of the file.
struct Factors {
  std::map<std::string, Shape> shapes;
  std::set<std::string> modules, parameters;  // what the config names

  void add(const std::string& module, std::int64_t out, std::int64_t in, std::int64_t rank) {
    shapes[fmt::format("{}{}.lora_A.weight", kPrefix, module)] = {rank, in};
    shapes[fmt::format("{}{}.lora_B.weight", kPrefix, module)] = {out, rank};
  }
};

Factors factors_of(const std::map<std::string, Shape>& tensors, std::int64_t rank) {
  constexpr std::string_view kWeight = ".weight";
  Factors out;
  for (const auto& [name, shape] : tensors) {
    if (name.find(".layers.") == std::string::npos || name.starts_with("mtp.")) {
      continue;
    }
    if (shape.size() == 3 && name.find(".experts.") != std::string::npos) {
      // One module with two parameters: that of the first is inside that of the second.
      const bool first = last_of(name) == "gate_up_proj";
      const std::string experts = name.substr(0, name.rfind('.'));
      out.parameters.insert("experts." + last_of(name));
      out.add(experts + (first ? ".base_layer" : ""), shape[1], shape[2], shape[0] * rank);
    } else if (shape.size() == 2 && name.ends_with(kWeight)) {
      const std::string module = name.substr(0, name.size() - kWeight.size());
      const std::string last = last_of(module);
      if (last.find("proj") != std::string::npos) {
        out.modules.insert(last);
        out.add(module, shape[0], shape[1], rank);
      }
    }
  }
  return out;
}

/// Numbers of BF16 between 2^-7 and 2^-6, either sign.
void write_numbers(std::ofstream& out, std::int64_t count, std::uint32_t& state) {
  std::array<std::uint16_t, 4096> block{};
  while (count > 0) {
    const auto now = std::min<std::int64_t>(count, std::ssize(block));
    for (std::uint16_t& one : block) {
      state = state * 1664525U + 1013904223U;
      one = static_cast<std::uint16_t>(((state >> 16U) & 0x807fU) | 0x3c00U);
    }
    out.write(reinterpret_cast<const char*>(block.data()), now * 2);
    count -= now;
  }
}

}  // namespace

Result<std::int64_t> write_adapter(const fs::path& model, const fs::path& out, std::int64_t rank) {
  const Factors factors = factors_of(shapes_of(model), rank);
  if (factors.shapes.empty()) {
    return fail(Code::ModelNotFound, fmt::format("{} has no projection", model.string()))
        .advise("give the folder of a model with its weights");
  }
  json header;
  std::int64_t at = 0;
  for (const auto& [name, shape] : factors.shapes) {
    const std::int64_t size = shape[0] * shape[1] * 2;
    header[name] = {{"dtype", "BF16"}, {"shape", shape}, {"data_offsets", {at, at + size}}};
    at += size;
  }
  std::string text = header.dump();
  text.resize((text.size() + 7) / 8 * 8, ' ');
  fs::create_directories(out);
  std::ofstream file(out / "adapter_model.safetensors", std::ios::binary);
  const std::uint64_t size = text.size();
  file.write(reinterpret_cast<const char*>(&size), sizeof size);
  file << text;
  std::uint32_t state = 1;
  for (const auto& [name, shape] : factors.shapes) {
    write_numbers(file, shape[0] * shape[1], state);
  }
  json config = {{"peft_type", "LORA"},
                 {"peft_version", "0.19.1"},
                 {"task_type", "CAUSAL_LM"},
                 {"base_model_name_or_path", model.string()},
                 {"bias", "none"},
                 {"fan_in_fan_out", false},
                 {"r", rank},
                 {"lora_alpha", 2 * rank},
                 {"target_modules", factors.modules}};
  if (!factors.parameters.empty()) {
    config["target_parameters"] = {"experts.gate_up_proj", "experts.down_proj"};
  }
  std::ofstream(out / "adapter_config.json") << config.dump(2) << "\n";
  return std::ssize(factors.shapes);
}

}  // namespace bv::cuda
