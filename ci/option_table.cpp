// One row an option. Adding an option is one member of Options and one row here; help, the
// environment, suggestions and docs/reference/cli.md follow.

#include <array>

#include "ci/options.hpp"

namespace bv::cli {
namespace {

constexpr std::string_view kAll = "*";
constexpr std::string_view kVerdicts = "check roundtrip convert lora fuzz diff";
constexpr std::string_view kLayout = "check roundtrip convert trace layout lora diff";
constexpr std::string_view kModel =
    "check roundtrip convert trace layout inspect rules lora fixture diff";
constexpr std::string_view kSelect = "check roundtrip lora";

using O = Options;

// name, letter, aliases, form, member, value, group, commands, help, remedy
constexpr std::array kOptions = {
    OptionSpec{"model", 'm', "", Form::Text, &O::model, "REF", "common",
               "check roundtrip convert trace layout inspect rules lora",
               "directory, file, fixture:FAMILY or ORG/NAME of the local HF cache",
               "write --model DIR"},
    OptionSpec{"help", 'h', "", Form::Flag, &O::help, "", "common", kAll,
               "this text, or that of a command", ""},
    OptionSpec{"version", 'V', "", Form::Flag, &O::version, "", "common", kAll,
               "version, build and schemas", ""},
    OptionSpec{"revision", 0, "hf-revision", Form::Text, &O::revision, "REV", "model", kModel,
               "branch, tag or commit in the HF cache", ""},
    OptionSpec{"rules", 0, "", Form::Text, &O::rules, "FILE", "model", kModel,
               "rules of your own bridge; default: a family chosen by architecture", ""},
    OptionSpec{"family", 0, "", Form::Text, &O::family, "NAME", "model", kModel,
               "a built-in family by name (bridge-verify models list)", ""},
    OptionSpec{"headers", 0, "", Form::Text, &O::headers, "FILE", "model",
               "check trace layout inspect rules", "a headers dump in place of weights", ""},
    OptionSpec{"adapter", 0, "", Form::Text, &O::adapter, "DIR", "model", "check roundtrip lora",
               "LoRA adapter to check with the model", ""},
    OptionSpec{"set", 0, "", Form::Pair, &O::settings, "PATH=VALUE", "model", kModel,
               "replaces a config field; repeatable",
               "write --set text_config.num_key_value_heads=8"},

    OptionSpec{"tp", 0, "tensor-model-parallel-size tensor-parallel-size", Form::Sizes, &O::tp,
               "LIST", "layout", kLayout, "tensor parallelism: 1,2,4 or 1..8 (powers of two)",
               "write --tp 1 for no tensor parallelism"},
    OptionSpec{"pp", 0, "pipeline-model-parallel-size pipeline-parallel-size", Form::Sizes, &O::pp,
               "LIST", "layout", kLayout, "pipeline parallelism",
               "write --pp 1 for no pipeline parallelism"},
    OptionSpec{"ep", 0, "expert-model-parallel-size expert-parallel-size", Form::Sizes, &O::ep,
               "LIST", "layout", kLayout, "expert parallelism",
               "write --ep 1 for no expert parallelism"},
    OptionSpec{"etp", 0, "expert-tensor-parallel-size", Form::Sizes, &O::etp, "LIST", "layout",
               kLayout, "tensor parallelism of experts; default: equals --tp",
               "write --etp 1 for uncut experts"},
    OptionSpec{"vpp", 0,
               "num-virtual-stages-per-pipeline-rank virtual-pipeline-model-parallel-size",
               Form::Sizes, &O::vpp, "LIST", "layout", kLayout,
               "virtual stages of each pipeline rank", "write --vpp 1 for no virtual stages"},
    OptionSpec{"cp", 0, "context-parallel-size", Form::Sizes, &O::cp, "LIST", "layout", kLayout,
               "context parallelism; does not move weights",
               "write --cp 1 for no context parallelism"},
    OptionSpec{"num-layers-per-virtual-pipeline-stage", 0, "", Form::Positive,
               &O::layers_per_virtual_stage, "N", "layout", kLayout, "as Megatron; decides --vpp",
               ""},
    OptionSpec{"decoder-first-pipeline-num-layers", 0, "num-layers-in-first-pipeline-stage",
               Form::Positive, &O::first_stage_layers, "N", "layout", kLayout,
               "layers of the first pipeline stage", ""},
    OptionSpec{"decoder-last-pipeline-num-layers", 0, "num-layers-in-last-pipeline-stage",
               Form::Positive, &O::last_stage_layers, "N", "layout", kLayout,
               "layers of the last pipeline stage", ""},
    OptionSpec{"pipeline-model-parallel-layout", 0, "", Form::Text, &O::pipeline_layout, "STR",
               "layout", kLayout, "stages as Megatron writes them: Et*3|(tt|)*29,m|L", ""},
    OptionSpec{"account-for-embedding-in-pipeline-split", 0, "", Form::Flag,
               &O::account_for_embedding, "", "layout", kLayout, "the embedding counts as a layer",
               ""},
    OptionSpec{"account-for-loss-in-pipeline-split", 0, "", Form::Flag, &O::account_for_loss, "",
               "layout", kLayout, "the loss counts as a layer", ""},
    OptionSpec{"make-vocab-size-divisible-by", 0, "", Form::Positive, &O::vocab_divisor, "N",
               "layout", kLayout, "pads the vocabulary to a multiple of N x TP", ""},
    OptionSpec{"world-size", 0, "", Form::Positive, &O::world_size, "N", "layout",
               "layout trace check", "ranks of the world; default: the smallest", ""},
    OptionSpec{"layout", 0, "", Form::Repeat, &O::layout, "ID", "layout", kLayout,
               "one layout in one word: tp2pp1ep8etp1; repeatable", ""},
    OptionSpec{"layouts", 0, "", Form::Text, &O::layouts, "auto|quick|all|FILE", "layout",
               "check roundtrip lora", "which layouts when no size is given", ""},
    OptionSpec{"max-ranks", 0, "", Form::Positive, &O::max_ranks, "N", "layout",
               "check roundtrip lora", "largest world of --layouts all", ""},
    OptionSpec{"transformer-impl", 0, "", Form::Choice, &O::transformer_impl,
               "transformer_engine|local", "layout", kModel, "spelling of fused norm names", ""},
    OptionSpec{"moe-grouped-gemm", 0, "", Form::Flag, &O::grouped_experts, "", "layout", kModel,
               "grouped experts: linear_fc1.weight0 (default)", ""},
    OptionSpec{"no-moe-grouped-gemm", 0, "", Form::Flag, &O::sequential_experts, "", "layout",
               kModel, "sequential experts: local_experts.0.linear_fc1.weight", ""},

    OptionSpec{"level", 0, "", Form::Choice, &O::level, "headers|data|full", "selection",
               "check lora",
               "headers: names, shapes, proofs; data: every byte; full: both and more", ""},
    OptionSpec{"only", 0, "", Form::Names, &O::only, "CLAIM,..", "selection", kSelect,
               "these claims", ""},
    OptionSpec{"skip", 0, "", Form::Names, &O::skip, "CLAIM,..", "selection", kSelect,
               "not these claims; the run is then undecided", ""},
    OptionSpec{"match", 0, "", Form::Repeat, &O::match, "GLOB", "selection",
               "check roundtrip inspect lora", "these tensors; repeatable", ""},
    OptionSpec{"exclude", 0, "", Form::Repeat, &O::exclude, "GLOB", "selection",
               "check roundtrip inspect lora", "not these tensors; repeatable", ""},
    OptionSpec{"allow-partial", 0, "", Form::Flag, &O::allow_partial, "", "selection", kSelect,
               "a partial run may pass", ""},
    OptionSpec{"strict", 0, "", Form::Flag, &O::strict, "", "selection", kModel,
               "refuse what the format only tolerates", ""},
    OptionSpec{"drop-mtp", 0, "", Form::Flag, &O::drop_mtp, "", "selection", kModel,
               "leave the MTP layers out, on purpose", ""},
    OptionSpec{"expert-orientation", 0, "", Form::Choice, &O::expert_orientation, "out_in|in_out",
               "selection", kModel, "how square expert stacks are stored", ""},
    OptionSpec{"from", 0, "", Form::Choice, &O::from, "hf|megatron", "selection", "trace convert",
               "the side that a name or a checkpoint is of", ""},
    OptionSpec{"to", 0, "", Form::Choice, &O::to, "megatron|hf", "selection", "convert",
               "the side to write", ""},
    OptionSpec{"dtype", 0, "", Form::Choice, &O::dtype, "preserve|float32|bfloat16|float16",
               "selection", "check roundtrip convert diff",
               "casts on the way; a cast is a value-changing rule", ""},
    OptionSpec{"fail-on", 0, "", Form::Choice, &O::fail_on, "refuted|inconclusive|warning",
               "selection", kVerdicts, "the mildest finding that fails the run", ""},
    OptionSpec{"exit-zero", 0, "", Form::Flag, &O::exit_zero, "", "selection", kVerdicts,
               "report only: hides exit 1 and 3", ""},

    OptionSpec{"out", 'o', "", Form::Text, &O::out, "DIR", "output",
               "check roundtrip convert lora fixture fuzz",
               "folder for reports or the written checkpoint", ""},
    OptionSpec{"json", 0, "", Form::Flag, &O::json, "", "output",
               "check roundtrip convert diff lora fuzz trace layout inspect models rules",
               "JSON on stdout and nothing else", ""},
    OptionSpec{"format", 0, "", Form::Choice, &O::format, "text|plain|json|jsonl", "output",
               kVerdicts, "form of stdout", ""},
    OptionSpec{"overwrite", 0, "", Form::Flag, &O::overwrite, "", "output", "convert fixture",
               "replace what is there", ""},
    OptionSpec{"resume", 0, "", Form::Flag, &O::resume, "", "output", "convert",
               "keep finished shards", ""},
    OptionSpec{"no-verify", 0, "", Form::Flag, &O::no_verify, "", "output", "convert",
               "write without checking; says so", ""},
    OptionSpec{"quiet", 'q', "", Form::Count, &O::quiet, "", "output", kAll,
               "-q refuted and last line; -qq nothing", ""},
    OptionSpec{"verbose", 'v', "", Form::Count, &O::verbose, "", "output", kAll,
               "-v each rule; -vv each verdict", ""},
    OptionSpec{"color", 0, "colour", Form::Choice, &O::color, "auto|always|never", "output", kAll,
               "auto: terminals without NO_COLOR", ""},
    OptionSpec{"ascii", 0, "", Form::Flag, &O::ascii, "", "output", kAll, "no Unicode", ""},
    OptionSpec{"progress", 0, "", Form::Choice, &O::progress, "auto|always|never|json", "output",
               kVerdicts, "progress on stderr", ""},

    OptionSpec{"jobs", 'j', "", Form::Positive, &O::jobs, "N", "engine", kVerdicts,
               "threads; default: all cores", ""},
    OptionSpec{"device", 0, "", Form::Text, &O::device, "cpu|cuda[:N]", "engine",
               "check roundtrip convert lora", "where bytes are moved", ""},
    OptionSpec{"seed", 0, "", Form::Unsigned, &O::seed, "N", "engine",
               "check roundtrip lora fuzz fixture", "of everything random; printed always", ""},
    OptionSpec{"mem-limit", 0, "", Form::Bytes, &O::mem_limit_bytes, "SIZE", "engine", kVerdicts,
               "most memory: 512MiB, 4G", "write --mem-limit 4GiB"},
    OptionSpec{"timeout", 0, "", Form::Duration, &O::timeout_seconds, "DUR", "engine", kVerdicts,
               "most time: 90s, 15m, 2h; the run is then undecided", "write --timeout 15m"},
    OptionSpec{"no-input", 0, "", Form::Flag, &O::no_input, "", "engine", "convert", "never ask",
               ""},
};

}  // namespace

std::span<const OptionSpec> option_specs() {
  return kOptions;
}

}  // namespace bv::cli
