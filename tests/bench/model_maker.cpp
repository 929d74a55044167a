#include "tests/bench/model_maker.hpp"

#include <fmt/format.h>
#include <unistd.h>

#include <fstream>
#include <nlohmann/json.hpp>

#include "core/base/arith.hpp"
#include "core/checkpoint/open_model.hpp"
#include "core/io/writer.hpp"
#include "core/plan/plan.hpp"
#include "tests/bench/buffers.hpp"

namespace bv::bench {
namespace fs = std::filesystem;
using Json = nlohmann::json;

namespace {

constexpr std::uint64_t kFileBytes = std::uint64_t{512} << 20;
constexpr std::uint64_t kChunkBytes = std::uint64_t{1} << 20;

Status write_one(const fs::path& path, std::vector<TensorSpec> specs) {
  BV_TRY(plan, io::plan_safetensors(std::move(specs), {{"format", "pt"}}));
  BV_TRY(file, io::PendingFile::create(path, plan.file_size));
  BV_CHECK(file.write_at(0, std::as_bytes(std::span(plan.header))));
  std::vector<std::byte> chunk(kChunkBytes);
  for (std::uint64_t at = plan.header.size(); at < plan.file_size; at += chunk.size()) {
    chunk.resize(std::min<std::uint64_t>(kChunkBytes, plan.file_size - at));
    fill(chunk, at);
    BV_CHECK(file.write_at(at, chunk));
  }
  return file.commit();
}

}  // namespace

fs::path default_folder() {
  return fs::exists("/dev/shm") ? fs::path("/dev/shm") : fs::temp_directory_path();
}

Scratch::Scratch(const fs::path& folder, const std::string& name)
    : path_(folder / fmt::format("bv-bench-{}-{}", ::getpid(), name)) {
  fs::create_directories(path_);
}
Scratch::~Scratch() {
  std::error_code ignored;
  fs::remove_all(path_, ignored);
}

std::string moe_config(std::int64_t layers, std::int64_t experts, std::int64_t hidden,
                       std::int64_t expert_ffn) {
  std::ifstream in(fs::path(BV_FIXTURES) / "golden/hf/qwen3_moe_packed/config.json");
  Json config = Json::parse(in);
  config["num_hidden_layers"] = layers;
  config["max_window_layers"] = layers;
  config["num_experts"] = experts;
  config["num_experts_per_tok"] = std::min<std::int64_t>(8, experts);
  config["hidden_size"] = hidden;
  config["moe_intermediate_size"] = expert_ffn;
  config["intermediate_size"] = 2 * hidden;
  config["num_attention_heads"] = 32;
  config["num_key_value_heads"] = 8;
  config["head_dim"] = 64;
  config["vocab_size"] = 32768;
  if (config.contains("layer_types")) {
    config["layer_types"] =
        std::vector<std::string>(static_cast<std::size_t>(layers), "full_attention");
  }
  return config.dump(2);
}

std::string config_for_bytes(std::int64_t bytes) {
  const std::int64_t hidden = bytes < (std::int64_t{128} << 20) ? 256 : 2048;
  const std::int64_t experts = 16;
  const std::int64_t layer = 2 * (experts * 3 * hidden * 512 + 5 * hidden * 2048 / 2);
  const std::int64_t embedding = 2 * 2 * 32768 * hidden;
  return moe_config(std::max<std::int64_t>(1, (bytes - embedding) / layer), experts, hidden, 512);
}

Result<checkpoint::HfModel> model_of(const std::string& config) {
  BV_TRY(families, family::builtin_families());
  checkpoint::OpenOptions options;
  options.resolve.config_only = true;
  options.resolve.forms = {{"decoder_experts", "packed"}};
  auto made = checkpoint::open_headers(config, "config.json", {}, families, options);
  if (!made) {  // a family without that choice
    options.resolve.forms.clear();
    return checkpoint::open_headers(config, "config.json", {}, families, options);
  }
  return made;
}

Status make_checkpoint(const fs::path& folder, const std::string& config) {
  BV_TRY(kinds, kinds::load_catalogue());
  BV_TRY(model, model_of(config));
  BV_TRY(headers, plan::expected_headers(model.model, kinds));
  std::vector<std::vector<TensorSpec>> files(1);
  std::uint64_t bytes_here = 0;
  for (const auto& [name, spec] : headers) {
    const auto size = static_cast<std::uint64_t>(element_count(spec.shape).value() * 2);
    if (bytes_here > 0 && bytes_here + size > kFileBytes) {
      files.emplace_back();
      bytes_here = 0;
    }
    bytes_here += size;
    files.back().push_back(spec);
  }
  Json index = {{"metadata", {{"total_size", 0}}}, {"weight_map", Json::object()}};
  for (std::size_t i = 0; i < files.size(); ++i) {
    const std::string name =
        files.size() == 1 ? "model.safetensors"
                          : fmt::format("model-{:05}-of-{:05}.safetensors", i + 1, files.size());
    for (const TensorSpec& spec : files[i]) {
      index["weight_map"][spec.name] = name;
    }
    BV_CHECK(write_one(folder / name, std::move(files[i])));
  }
  if (files.size() > 1) {
    BV_CHECK(io::write_file(folder / "model.safetensors.index.json", index.dump()));
  }
  return io::write_file(folder / "config.json", config);
}

Result<checkpoint::HfModel> open_checkpoint(const fs::path& folder) {
  BV_TRY(families, family::builtin_families());
  return checkpoint::open_hf(folder, families, {});
}

}  // namespace bv::bench
