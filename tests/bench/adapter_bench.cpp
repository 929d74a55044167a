// LoraConvert/DIRECTION/tp:N: an adapter of PEFT to one file a rank, and back, against a copy of
// its weights by pread and pwrite.

#include <fcntl.h>
#include <fmt/format.h>
#include <unistd.h>

#include <fstream>
#include <nlohmann/json.hpp>
#include <set>

#include "core/base/arith.hpp"
#include "core/checkpoint/open_model.hpp"
#include "core/io/writer.hpp"
#include "core/lora/adapter_keys.hpp"
#include "core/lora/convert_adapter.hpp"
#include "core/plan/layout_set.hpp"
#include "core/plan/plan.hpp"
#include "tests/bench/buffers.hpp"
#include "tests/bench/model_maker.hpp"
#include "tests/bench/paired.hpp"

namespace bv::bench {
namespace fs = std::filesystem;

namespace {

constexpr std::int64_t kRank = 64;
constexpr std::size_t kAtOnce = std::size_t{256} << 10;

/// A dense model whose adapter on every projection has about so many bytes.
std::string dense_config(std::int64_t bytes) {
  std::ifstream in(fs::path(BV_FIXTURES) / "golden/hf/llama/config.json");
  auto config = nlohmann::json::parse(in);
  const std::int64_t hidden = 4096;
  const std::int64_t ffn = 14336;
  const std::int64_t layer =
      2 * kRank * (3 * (hidden + ffn) + 2 * 2 * hidden + 2 * (hidden + 1024));
  config["hidden_size"] = hidden;
  config["intermediate_size"] = ffn;
  config["num_hidden_layers"] = std::max<std::int64_t>(1, bytes / layer);
  config["num_attention_heads"] = 32;
  config["num_key_value_heads"] = 8;
  config["head_dim"] = 128;
  config["vocab_size"] = 32000;
  return config.dump();
}

/// The base of headers alone, and a folder of PEFT for it.
struct AdapterStage {
  explicit AdapterStage(const Settings& settings) : scratch(settings.folder, "adapter") {
    BV_ASSERT(write(dense_config(settings.bytes)).has_value());
    adapter = std::make_unique<lora::Adapter>(
        lora::open_adapter(scratch.path() / "peft", base, kinds).value());
    BV_ASSERT(lora::check_usable(*adapter).has_value());
  }
  Status write(const std::string& config) {
    BV_TRY(families, family::builtin_families());
    BV_TRY(alone, model_of(config));
    BV_TRY(headers, plan::expected_headers(alone.model, kinds));
    std::vector<TensorSpec> factors;
    std::set<std::string> modules;
    for (const auto& [name, spec] : headers) {
      if (!name.ends_with("_proj.weight")) {
        continue;
      }
      const std::string_view path = lora::module_of(name);
      modules.emplace(path.substr(path.rfind('.') + 1));
      factors.push_back(
          {lora::adapter_key(name, lora::KeyKind::A), DType::BF16, {kRank, spec.shape[1]}});
      factors.push_back(
          {lora::adapter_key(name, lora::KeyKind::B), DType::BF16, {spec.shape[0], kRank}});
    }
    BV_TRY(opened,
           checkpoint::open_headers(config, "config.json", std::move(headers), families, {}));
    base = std::move(opened);
    fs::create_directories(scratch.path() / "peft");
    const nlohmann::json peft = {{"peft_type", "LORA"},
                                 {"r", kRank},
                                 {"lora_alpha", kRank},
                                 {"peft_version", "0.21.2"},
                                 {"target_modules", modules}};
    BV_CHECK(io::write_file(scratch.path() / "peft/adapter_config.json", peft.dump()));
    BV_TRY(plan, io::plan_safetensors(std::move(factors), {{"format", "pt"}}));
    bytes = static_cast<double>(plan.file_size);
    BV_TRY(file, io::PendingFile::create(scratch.path() / "peft/adapter_model.safetensors",
                                         plan.file_size));
    BV_CHECK(file.write_at(0, std::as_bytes(std::span(plan.header))));
    const std::vector<std::byte> block(kAtOnce, std::byte{0x3c});
    for (std::uint64_t at = plan.header.size(); at < plan.file_size; at += block.size()) {
      BV_CHECK(file.write_at(
          at, std::span(block).first(std::min<std::size_t>(block.size(), plan.file_size - at))));
    }
    return file.commit();
  }

  Scratch scratch;
  kinds::Catalogue kinds = kinds::load_catalogue().value();
  checkpoint::HfModel base;
  std::unique_ptr<lora::Adapter> adapter;
  double bytes = 0;
};

/// The anchor: the weights, through one buffer.
void copy_weights(const fs::path& from, const fs::path& to) {
  fs::remove(to);
  const int in = ::open(from.c_str(), O_RDONLY | O_CLOEXEC);
  const int out = ::open(to.c_str(), O_WRONLY | O_CREAT | O_CLOEXEC, 0644);
  BV_ASSERT(in >= 0 && out >= 0);
  static std::vector<std::byte> buffer(kAtOnce);
  off_t at = 0;
  for (ssize_t got = 0; (got = ::pread(in, buffer.data(), buffer.size(), at)) > 0; at += got) {
    BV_ASSERT(::pwrite(out, buffer.data(), static_cast<std::size_t>(got), at) == got);
  }
  ::fsync(out);
  ::close(in);
  ::close(out);
}

/// What an adapter is converted through on one layout.
struct Ways {
  Ways(const checkpoint::HfModel& base, const kinds::Catalogue& kinds, std::int64_t tp) {
    layout.tp = tp;
    layout = plan::with_padding(base.model, layout);
    of_class = std::make_unique<model::Model>(lora::class_model(base).value());
    plan = std::make_unique<plan::Plan>(plan::Plan::make(base.model, kinds, layout).value());
    class_plan = std::make_unique<plan::Plan>(plan::Plan::make(*of_class, kinds, layout).value());
    sites.emplace(lora::SitePlan::make(*plan, kinds).value());
    class_sites.emplace(lora::SitePlan::make(*class_plan, kinds).value());
  }
  parallel::Layout layout;
  std::unique_ptr<model::Model> of_class;
  std::unique_ptr<plan::Plan> plan, class_plan;
  std::optional<lora::SitePlan> sites, class_sites;
};

void convert_bench(benchmark::State& state, const Settings& settings, std::int64_t tp, bool back) {
  static AdapterStage at(settings);
  const Ways ways(at.base, at.kinds, tp);
  const fs::path ranks = at.scratch.path() / "ranks";
  const fs::path hf = at.scratch.path() / "hf";
  const fs::path copy = at.scratch.path() / "copy";
  lora::ConvertAdapterOptions options;
  options.verify = false;
  const auto there = [&] {
    fs::remove_all(ranks);
    BV_ASSERT(lora::adapter_to_megatron(*at.adapter, *ways.sites, ranks, options).has_value());
  };
  std::function<void()> run = there;
  std::optional<lora::MegatronAdapter> opened;
  if (back) {
    there();
    auto record = lora::read_record(ranks).value();
    opened = lora::open_megatron_adapter(ranks, *ways.sites, std::move(record),
                                         {ways.layout, std::nullopt})
                 .value();
    run = [&] {
      fs::remove_all(hf);
      const auto files = lora::plan_to_hf(*opened, *ways.sites, *ways.class_sites, at.base).value();
      BV_ASSERT(lora::adapter_to_hf(*opened, files, hf, options).has_value());
    };
  }
  const auto anchor = [&] {
    copy_weights(at.scratch.path() / "peft/adapter_model.safetensors", copy);
  };
  paired(state, {anchor, at.bytes}, {run, at.bytes});
  for (const fs::path& made : {ranks, hf, copy}) {
    fs::remove_all(made);
  }
}

}  // namespace

void add_adapter_benchmarks(const Settings& settings) {
  for (const std::int64_t tp : {1, 8}) {
    for (const bool back : {false, true}) {
      benchmark::RegisterBenchmark(
          fmt::format("LoraConvert/{}/tp:{}", back ? "to_peft" : "to_ranks", tp).c_str(),
          [settings, tp, back](benchmark::State& state) {
            convert_bench(state, settings, tp, back);
          })
          ->Iterations(settings.pairs)
          ->UseManualTime()
          ->Unit(benchmark::kMillisecond);
    }
  }
}

}  // namespace bv::bench
