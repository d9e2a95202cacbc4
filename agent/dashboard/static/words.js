// What the page says, in English and Chinese. `{name}` stands for a value.

const EN = {
  skip: "Skip to the answer",
  controls: "Agent", page: "Page", language: "Language",
  theme: "Theme", "theme.auto": "Automatic", "theme.light": "Light", "theme.dark": "Dark",
  connecting: "Connecting…", live: "Live", waiting: "Connection lost. Next try in {s} s",
  refused: "A token is needed: open the page once with ?token=…",
  silent: "No decision for {s} s", paused: "Paused: nothing is sensed",
  restarted: "The agent has been restarted", old: "This page is older than the agent: load it again",
  pause: "Pause", resume: "Resume", record: "Record", "record.stop": "Stop recording",
  "done.pause": "Paused: all inputs are closed", "done.resume": "Resumed: the inputs are being opened",
  "done.record": "Recording", "done.stop": "The recording has ended", "failed": "Not done: {why}", "unreachable": "the agent does not answer",
  answer: "Answer", unsure: "Not sure", "unsure.why": "at most {p}", nothing: "Nothing sensed yet",
  sure: "{p} sure", conflict: "Conflict", rule: "Rule", latency: "Latency", seq: "Decision",
  probabilities: "Probabilities", "decided-by": "What decided", "share.none": "No modality had anything to say",
  share: "Share", weight: "Weight", quality: "Quality", age: "Age", encode: "Encoding", source: "Source",
  camera: "Camera", "no-picture": "No picture yet", "no-preview": "The preview is switched off: [dashboard] preview",
  "camera.alt": "Camera {source}: {faces}", faces: "{n} faces", "faces.1": "one face", "faces.0": "no face",
  vision: "Vision", audio: "Audio", text: "Text",
  "state.active": "active", "state.degraded": "hardly counts", "state.missing": "missing",
  "why.silent": "silent", "why.late": "late", "why.failed": "failed", "why.skipped": "skipped", "why.disabled": "off",
  "vision.silent": "The camera delivers, but there is no face in it", "audio.silent": "The microphone delivers, but nobody speaks",
  "text.silent": "Nothing was typed or said", "long.late": "Nothing came in time", "long.failed": "The source is down and being restarted",
  "long.skipped": "The compute budget left it out", "long.disabled": "Switched off", "long.quality": "Its quality is low",
  timeline: "Timeline", span: "Span", minutes: "{n} min", "timeline.slider": "Window to look at",
  fused: "Answer", certainty: "Sure", events: "Events", "lane.events": "Events", now: "Live: choose a window with the pointer or the arrow keys",
  sound: "Sound", level: "Level", spectrogram: "Spectrogram of the last 15 seconds, with who speaks when beneath",
  speech: "Somebody speaks: {p}", "speech.no": "Nobody listens for speech yet", db: "{x} dB",
  words: "Typed and said", typed: "typed", said: "said", "words.none": "Nothing yet",
  health: "Health", load: "Load", dropped: "Left out", engines: "Engines and models", "dropped.none": "Nothing",
  cpu: "Processor", rss: "Memory, at most", lag: "Loop lag", decisions: "Decisions", abstained: "Abstained", uncertainty: "Clock uncertainty",
  "latency.text": "Median {p50} ms, 99 of 100 below {p99} ms, over {n} decisions", "latency.none": "No decision yet", off: "off",
  "event.source": "{source}: {state}", "event.live": "delivers again", "event.failed": "failed", "event.disabled": "closed",
  valence: "Valence", arousal: "Arousal",
  "event.new": "{label} begins, {p} sure", "event.update": "{label} goes on, {p} sure", "event.end": "{label} ends",
};

const ZH = {
  skip: "跳到结果",
  controls: "智能体", page: "页面", language: "语言",
  theme: "主题", "theme.auto": "自动", "theme.light": "浅色", "theme.dark": "深色",
  connecting: "正在连接…", live: "实时", waiting: "连接已断开，{s} 秒后重试",
  refused: "需要令牌：请用 ?token=… 打开一次本页",
  silent: "已有 {s} 秒没有决策", paused: "已暂停：不感知任何内容",
  restarted: "智能体已重新启动", old: "本页版本比智能体旧，请重新加载",
  pause: "暂停", resume: "继续", record: "录制", "record.stop": "停止录制",
  "done.pause": "已暂停：所有输入均已关闭", "done.resume": "已继续：正在打开输入",
  "done.record": "正在录制", "done.stop": "录制已结束", "failed": "未执行：{why}", "unreachable": "智能体没有应答",
  answer: "结果", unsure: "不确定", "unsure.why": "最高 {p}", nothing: "尚未感知到内容",
  sure: "把握 {p}", conflict: "冲突", rule: "规则", latency: "延迟", seq: "决策",
  probabilities: "概率", "decided-by": "决策依据", "share.none": "没有模态给出信息",
  share: "占比", weight: "权重", quality: "质量", age: "时效", encode: "耗时", source: "来源",
  camera: "摄像头", "no-picture": "还没有画面", "no-preview": "预览已关闭：[dashboard] preview",
  "camera.alt": "摄像头 {source}：{faces}", faces: "{n} 张人脸", "faces.1": "一张人脸", "faces.0": "没有人脸",
  vision: "视觉", audio: "语音", text: "文本",
  "state.active": "正常", "state.degraded": "几乎不计", "state.missing": "缺失",
  "why.silent": "无内容", "why.late": "迟到", "why.failed": "故障", "why.skipped": "跳过", "why.disabled": "关闭",
  "vision.silent": "摄像头有画面，但没有人脸", "audio.silent": "麦克风有声音，但没有人说话",
  "text.silent": "没有输入文字，也没有说话", "long.late": "没有按时到达", "long.failed": "来源出现故障，正在重启",
  "long.skipped": "因计算预算而跳过", "long.disabled": "已关闭", "long.quality": "质量较低",
  timeline: "时间线", span: "时间跨度", minutes: "{n} 分钟", "timeline.slider": "查看的窗口",
  fused: "结果", certainty: "把握", events: "事件", "lane.events": "事件", now: "实时：用指针或方向键选择一个窗口",
  sound: "声音", level: "电平", spectrogram: "最近 15 秒的频谱图，下方标出何时有人说话",
  speech: "有人说话：{p}", "speech.no": "尚未检测语音", db: "{x} 分贝",
  words: "输入与话语", typed: "输入", said: "话语", "words.none": "暂无",
  health: "运行状况", load: "负载", dropped: "丢弃", engines: "引擎与模型", "dropped.none": "无",
  cpu: "处理器", rss: "内存峰值", lag: "事件循环延迟", decisions: "决策数", abstained: "弃权数", uncertainty: "时钟不确定度",
  "latency.text": "{n} 次决策：中位数 {p50} 毫秒，99% 低于 {p99} 毫秒", "latency.none": "还没有决策", off: "关闭",
  "event.source": "{source}：{state}", "event.live": "恢复输出", "event.failed": "故障", "event.disabled": "已关闭",
  valence: "Valence", arousal: "Arousal",
  valence: "效价", arousal: "唤醒度",
  "event.new": "{label} 开始，把握 {p}", "event.update": "{label} 持续，把握 {p}", "event.end": "{label} 结束",
};

/** Labels that are not shown as they are. */
const LABELS = {
  en: {},
  zh: { neutral: "中性", happy: "高兴", sad: "悲伤", angry: "愤怒", fearful: "恐惧", disgusted: "厌恶", surprised: "惊讶" },
};

const BOTH = { en: EN, zh: ZH };
let language = BOTH[localStorage.getItem("attune.language")] ? localStorage.getItem("attune.language") : navigator.language.startsWith("zh") ? "zh" : "en";
let formats;
setLanguage(language);

export function setLanguage(chosen) {
  language = chosen;
  const tag = chosen === "zh" ? "zh-CN" : navigator.language.startsWith("en") ? navigator.language : "en-GB";
  formats = {
    percent: new Intl.NumberFormat(tag, { style: "percent" }),
    number: new Intl.NumberFormat(tag, { maximumFractionDigits: 1 }),
    time: new Intl.DateTimeFormat(tag, { hour: "2-digit", minute: "2-digit", second: "2-digit", hourCycle: "h23" }),
  };
  document.documentElement.lang = chosen === "zh" ? "zh-CN" : "en";
}

export const spoken = () => language;
export const percent = (x) => formats.percent.format(x);
/** How sure something is: rounding makes nothing certain. */
export const sureness = (p) => (p >= 0.995 ? `>${percent(0.99)}` : percent(p));
export const number = (x) => formats.number.format(x);
export const clock = (ms) => formats.time.format(ms);
export const millis = (x) => `${formats.number.format(x)} ms`;

/** A phrase; one that is not known is itself. */
export function t(key, values = {}) {
  const phrase = own(BOTH[language], key) ?? own(EN, key) ?? key;
  return phrase.replace(/\{(\w+)\}/g, (whole, name) => values[name] ?? whole);
}

/** A label in the language of the page; those of one's own config stay as they are. */
export const labelled = (label) => (label == null ? t("unsure") : (own(LABELS[language], label) ?? label));

const own = (table, key) => (Object.hasOwn(table, key) ? table[key] : undefined);

/** Puts the phrases into the elements that ask for them. */
export function fill(root = document) {
  for (const element of root.querySelectorAll("[data-t]")) element.textContent = t(element.dataset.t);
  for (const element of root.querySelectorAll("[data-t-label]")) element.setAttribute("aria-label", t(element.dataset.tLabel));
}
