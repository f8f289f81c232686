"""Constants that decide published numbers, held against their authors' code at the commits that the modules name.

A test that fails here says that a number has changed: hold it against the source before changing the test.
"""

from __future__ import annotations

from data.benchmarks import if_reward_bench, judgebench, llmbar, m_reward_bench, reward_bench, rm_bench, rmb, salesforce
from data.records import content_id
from tasks.benchmark.pairs import _LEVELS


def test_reward_benchs_weights() -> None:
    """rewardbench/constants.py at 05a9005e: EXAMPLE_COUNTS and SUBSET_MAPPING."""
    weights = reward_bench.WEIGHTS
    assert (weights["xstest-should-refuse"], weights["xstest-should-respond"]) == (154, 250)
    assert (weights["math-prm"], sum(n for name, n in weights.items() if name.startswith("hep-"))) == (984, 984)
    assert {section: sum(weights[name] for name in names) for section, names in reward_bench.SECTIONS.items()} == {
        "Chat": 358, "Chat Hard": 456, "Safety": 740, "Reasoning": 1968,
    }  # fmt: skip
    # math-prm alone counts more than its 447 rows: the rest is the card's 2,985 rows of the split "filtered".
    assert sum(weights.values()) - 984 + 447 == 2985
    named = [name for names in reward_bench.SECTIONS.values() for name in names]
    assert sorted(named) == sorted(weights)
    # Every name and number: `sorted` because the order of the table means nothing.
    assert content_id(sorted(weights.items()), reward_bench.SECTIONS)[:16] == "de03aeff6e50017c"


def test_reward_bench_2s_subsets() -> None:
    assert reward_bench.SUBSETS_2 == ("Factuality", "Precise IF", "Math", "Safety", "Focus", "Ties")
    assert reward_bench.TIES == "Ties"


def test_rm_benchs_domains_and_levels() -> None:
    """scripts/utils.py at 73c52d7b: a domain is what the row's domain starts with; hard lies above the diagonal."""
    assert rm_bench.DOMAINS == ("chat", "math", "code", "safety")
    assert rm_bench.PARTS == {
        "chat": "chat", "math": "math", "code": "code", "safety-refuse": "safety", "safety-response": "safety",
    }  # fmt: skip
    styles = range(rm_bench.STYLES)
    names = {
        "hard": {f"{i}-{j}" for i in styles for j in styles if i < j},
        "normal": {f"{i}-{i}" for i in styles},
        "easy": {f"{i}-{j}" for i in styles for j in styles if i > j},
    }
    assert {level: set(cells) for level, cells in _LEVELS.items()} == names
    assert [(cell.name, cell.first, cell.second) for cell in rm_bench.CELLS] == [
        (f"{i}-{j}", i, 3 + j) for i in range(3) for j in range(3)
    ]


def test_judgebenchs_categories_and_splits() -> None:
    """run_judge.py and README.md at e2c52c28."""
    assert judgebench.CATEGORIES == {
        "mmlu-pro": "knowledge", "livebench-reasoning": "reasoning", "livebench-math": "math", "livecodebench": "coding",
    }  # fmt: skip
    assert judgebench.SPLITS == {"gpt": "gpt-4o-2024-05-13", "claude": "claude-3-5-sonnet-20240620"}


def test_llmbars_subsets() -> None:
    """README.md at 900616bf."""
    assert llmbar.SUBSETS == (
        "Natural", "Adversarial_Neighbor", "Adversarial_GPTInst", "Adversarial_GPTOut", "Adversarial_Manual",
    )  # fmt: skip
    assert llmbar.SUBSETS[1:] == llmbar.ADVERSARIAL
    assert llmbar.PROCESSED == ("Processed_FairEval", "Processed_LLMEval^2", "Processed_MT-Bench")


def test_rmbs_sections_and_scenarios() -> None:
    """The folders of RMB_dataset at 2be31808, 98 files; the sections' names are those of RM-R1's process_final_result.py."""
    assert list(rmb.SECTIONS.values()) == [
        "Pairwise Helpfulness", "Pairwise Harmlessness", "BoN Helpfulness", "BoN Harmlessness",
    ]  # fmt: skip
    assert 2 * sum(rmb.SCENARIOS.values()) == 98


def test_the_splits_of_contextual_and_reasoning_judgebench() -> None:
    """main_eval.py of ContextualJudgeBench at 4d480a9d, aggregate.py of ReasoningJudgeBench at 191ca391."""
    assert len(salesforce.CONTEXTUAL_SPLITS) == 8
    assert {split.rsplit("_", 1)[0] for split in salesforce.CONTEXTUAL_SPLITS} == {
        "completeness", "conciseness", "faithfulness", "refusal",
    }  # fmt: skip
    of_category = {
        category: {
            split.removesuffix("_pairwise") for split, of in salesforce.REASONING_SPLITS.items() if of == category
        }
        for category in salesforce.REASONING_SPLITS.values()
    }
    assert of_category == {
        "math": {"aime_4o", "aime", "bbeh_ma", "olympiadbench"},
        "multihop": {"arc_challenge", "bbeh_be", "reclor", "folio"},
        "everyday": {"bbeh_cu", "bbeh_dq", "bbeh_hyper", "strategy_qa"},
        "domain": {"supergpqa"},
    }


def test_m_reward_benchs_languages_and_counts() -> None:
    """experiments/run_llm_evals.sh and analysis/plot_utils.py at 5e5a0d3d."""
    assert len(set(m_reward_bench.LANGUAGES)) == 23
    assert content_id(sorted(m_reward_bench.LANGUAGES))[:16] == "af3423d6b9c40860"
    counts = m_reward_bench.COUNTS
    assert counts.keys() == reward_bench.WEIGHTS.keys()
    assert {section: sum(counts[name] for name in names) for section, names in reward_bench.SECTIONS.items()} == {
        "Chat": 296, "Chat Hard": 407, "Safety": 736, "Reasoning": 1966,
    }  # fmt: skip
    assert counts["math-prm"] == sum(n for name, n in counts.items() if name.startswith("hep-"))
    assert content_id(sorted(counts.items()))[:16] == "6bee90e4bd450703"


def test_if_reward_benchs_types() -> None:
    """metrics/analysis_overall_assessment.py at c192fe96."""
    assert if_reward_bench.TYPES == ("Single_Turn", "Multi_Turn", "System_Prompt")
