"""The papers that the formulas are credited to, by id: ``"authors year, *title*"``, with what each is of where there
are several."""

__all__ = ["PAPERS"]

PAPERS: dict[str, tuple[str, ...]] = {
    "linalg.products": (
        "Giles 2008, *Collected Matrix Derivative Results for Forward and Reverse Mode Algorithmic Differentiation*",
    ),
    "linalg.eigen": (
        "Giles 2008, *Collected Matrix Derivative Results for Forward and Reverse Mode Algorithmic Differentiation*",
        "functions of matrices: Higham 2008, *Functions of Matrices: Theory and Computation*",
    ),
    "linalg.pca": ("Pearson 1901, *On Lines and Planes of Closest Fit to Systems of Points in Space*",),
    "linear.perceptron": (
        "Rosenblatt 1958, *The Perceptron: A Probabilistic Model for Information Storage and Organization in the "
        "Brain*",
    ),
    "linear.logistic": ("Cox 1958, *The Regression Analysis of Binary Sequences*",),
    "linear.softmax": (
        "Bridle 1990, *Probabilistic Interpretation of Feedforward Classification Network Outputs, with Relationships "
        "to Statistical Pattern Recognition*",
    ),
    "linear.cross_entropy": (
        "label smoothing: Szegedy, Vanhoucke, Ioffe, Shlens and Wojna 2016, *Rethinking the Inception Architecture "
        "for Computer Vision*",
        "logits never whole: Wijmans, Huval, Hertzberg, Koltun and Krähenbühl 2024, *Cut Your Losses in "
        "Large-Vocabulary Language Models*",
    ),
    "linear.log_sum_exp": (
        "Blanchard, Higham and Higham 2021, *Accurately Computing the Log-Sum-Exp and Softmax Functions*",
    ),
    "network.backprop": ("Rumelhart, Hinton and Williams 1986, *Learning Representations by Back-Propagating Errors*",),
    "network.gradient_descent": (
        "Cauchy 1847, *Méthode générale pour la résolution des systèmes d'équations simultanées*",
    ),
    "network.relu": ("Nair and Hinton 2010, *Rectified Linear Units Improve Restricted Boltzmann Machines*",),
    "network.conv_output_size": ("Dumoulin and Visin 2016, *A Guide to Convolution Arithmetic for Deep Learning*",),
    "activation.leaky_relu": (
        "Maas, Hannun and Ng 2013, *Rectifier Nonlinearities Improve Neural Network Acoustic Models*",
    ),
    "activation.prelu": (
        "He, Zhang, Ren and Sun 2015, *Delving Deep into Rectifiers: Surpassing Human-Level Performance on ImageNet "
        "Classification*",
    ),
    "activation.gelu": ("Hendrycks and Gimpel 2016, *Gaussian Error Linear Units (GELUs)*",),
    "activation.silu": (
        "Hendrycks and Gimpel 2016, *Gaussian Error Linear Units (GELUs)*, which names it",
        "Elfwing, Uchibe and Doya 2018, *Sigmoid-Weighted Linear Units for Neural Network Function Approximation "
        "in Reinforcement Learning*",
    ),
    "activation.softplus": (
        "Dugas, Bengio, Bélisle, Nadeau and Garcia 2000, *Incorporating Second-Order Functional Knowledge for "
        "Better Option Pricing*",
    ),
    "activation.peers": (
        "ELU: Clevert, Unterthiner and Hochreiter 2016, *Fast and Accurate Deep Network Learning by Exponential "
        "Linear Units (ELUs)*",
        "SELU: Klambauer, Unterthiner, Mayr and Hochreiter 2017, *Self-Normalizing Neural Networks*",
        "CELU: Barron 2017, *Continuously Differentiable Exponential Linear Units*",
        "Mish: Misra 2019, *Mish: A Self Regularized Non-Monotonic Activation Function*",
        "squareplus: Barron 2021, *Squareplus: A Softplus-Like Algebraic Rectifier*",
        "softsign: Turian, Bergstra and Bengio 2009, *Quadratic Features and Deep Architectures for Chunking*",
        "GLU: Dauphin, Fan, Auli and Grangier 2017, *Language Modeling with Gated Convolutional Networks*",
        "GEGLU, SwiGLU: Shazeer 2020, *GLU Variants Improve Transformer*",
        "ReLU6: Krizhevsky 2010, *Convolutional Deep Belief Networks on CIFAR-10*",
        "hard sigmoid, hard swish: Howard et al. 2019, *Searching for MobileNetV3*",
    ),
    "norm.batch": (
        "Ioffe and Szegedy 2015, *Batch Normalization: Accelerating Deep Network Training by Reducing Internal "
        "Covariate Shift*",
    ),
    "norm.layer": ("Ba, Kiros and Hinton 2016, *Layer Normalization*",),
    "norm.instance_group": (
        "instance: Ulyanov, Vedaldi and Lempitsky 2016, *Instance Normalization: The Missing Ingredient for Fast "
        "Stylization*",
        "group: Wu and He 2018, *Group Normalization*",
    ),
    "norm.peers": (
        "RMS: Zhang and Sennrich 2019, *Root Mean Square Layer Normalization*",
        "weight: Salimans and Kingma 2016, *Weight Normalization: A Simple Reparameterization to Accelerate "
        "Training of Deep Neural Networks*",
        "spectral: Miyato, Kataoka, Koyama and Yoshida 2018, *Spectral Normalization for Generative Adversarial "
        "Networks*",
    ),
    "dropout.standard": (
        "Srivastava, Hinton, Krizhevsky, Sutskever and Salakhutdinov 2014, *Dropout: A Simple Way to Prevent "
        "Neural Networks from Overfitting*",
    ),
    "dropout.variants": (
        "DropConnect: Wan, Zeiler, Zhang, LeCun and Fergus 2013, *Regularization of Neural Networks using DropConnect*",
        "spatial: Tompson, Goroshin, Jain, LeCun and Bregler 2015, *Efficient Object Localization Using "
        "Convolutional Networks*",
    ),
    "conv.conv2d": (
        "LeCun, Boser, Denker, Henderson, Howard, Hubbard and Jackel 1989, *Backpropagation Applied to Handwritten "
        "Zip Code Recognition*",
    ),
    "conv.stride_padding": ("Dumoulin and Visin 2016, *A Guide to Convolution Arithmetic for Deep Learning*",),
    "conv.conv1d": (
        "Waibel, Hanazawa, Hinton, Shikano and Lang 1989, *Phoneme Recognition Using Time-Delay Neural Networks*",
        "transposed: Dumoulin and Visin 2016, *A Guide to Convolution Arithmetic for Deep Learning*",
    ),
    "pool.max_average_global": (
        "max: Yamaguchi, Sakamoto, Akabane and Fujimoto 1990, *A Neural Network for Speaker-Independent Isolated "
        "Word Recognition*",
        "average: LeCun et al. 1990, *Handwritten Digit Recognition with a Back-Propagation Network*",
        "global average: Lin, Chen and Yan 2014, *Network In Network*",
    ),
    "rnn.vanilla": (
        "Elman 1990, *Finding Structure in Time*",
        "the Jacobian through time: Pascanu, Mikolov and Bengio 2013, *On the Difficulty of Training Recurrent "
        "Neural Networks*",
    ),
    "rnn.lstm": (
        "Hochreiter and Schmidhuber 1997, *Long Short-Term Memory*",
        "the forget gate: Gers, Schmidhuber and Cummins 2000, *Learning to Forget: Continual Prediction with LSTM*",
    ),
    "rnn.gru": (
        "Cho, van Merriënboer, Gulcehre, Bahdanau, Bougares, Schwenk and Bengio 2014, *Learning Phrase "
        "Representations using RNN Encoder–Decoder for Statistical Machine Translation*",
    ),
    "rnn.peers": (
        "bidirectional: Schuster and Paliwal 1997, *Bidirectional Recurrent Neural Networks*",
        "stacked: Graves, Mohamed and Hinton 2013, *Speech Recognition with Deep Recurrent Neural Networks*",
        "zoneout: Krueger et al. 2017, *Zoneout: Regularizing RNNs by Randomly Preserving Hidden Activations*",
    ),
    "attention.scaled_dot_product": (
        "Vaswani, Shazeer, Parmar, Uszkoreit, Jones, Gomez, Kaiser and Polosukhin 2017, *Attention Is All You Need*",
        "in blocks: Rabe and Staats 2021, *Self-attention Does Not Need O(n²) Memory*",
    ),
    "attention.multi_head": (
        "Vaswani et al. 2017, *Attention Is All You Need*",
        "grouped queries: Ainslie et al. 2023, *GQA: Training Generalized Multi-Query Transformer Models from "
        "Multi-Head Checkpoints*",
    ),
    "attention.causal": ("Vaswani et al. 2017, *Attention Is All You Need*",),
    "transformer.block": (
        "Vaswani et al. 2017, *Attention Is All You Need*",
        "the norm first: Xiong et al. 2020, *On Layer Normalization in the Transformer Architecture*",
    ),
    "transformer.residual": ("He, Zhang, Ren and Sun 2016, *Deep Residual Learning for Image Recognition*",),
    "transformer.positions": (
        "sinusoids: Vaswani et al. 2017, *Attention Is All You Need*",
        "learned: Gehring, Auli, Grangier, Yarats and Dauphin 2017, *Convolutional Sequence to Sequence Learning*",
        "RoPE: Su, Lu, Pan, Murtadha, Wen and Liu 2021, *RoFormer: Enhanced Transformer with Rotary Position "
        "Embedding*",
        "ALiBi: Press, Smith and Lewis 2022, *Train Short, Test Long: Attention with Linear Biases Enables Input "
        "Length Extrapolation*",
    ),
    "transformer.embedding": (
        "Bengio, Ducharme, Vincent and Jauvin 2003, *A Neural Probabilistic Language Model*",
        "tied to the head: Press and Wolf 2017, *Using the Output Embedding to Improve Language Models*",
    ),
    "regularisation.l1_l2": (
        "L2: Hoerl and Kennard 1970, *Ridge Regression: Biased Estimation for Nonorthogonal Problems*",
        "L1: Tibshirani 1996, *Regression Shrinkage and Selection via the Lasso*",
    ),
    "init.xavier_he": (
        "Xavier: Glorot and Bengio 2010, *Understanding the Difficulty of Training Deep Feedforward Neural Networks*",
        "He: He, Zhang, Ren and Sun 2015, *Delving Deep into Rectifiers: Surpassing Human-Level Performance on "
        "ImageNet Classification*",
    ),
    "loss.peers": (
        "Huber: Huber 1964, *Robust Estimation of a Location Parameter*",
        "KL: Kullback and Leibler 1951, *On Information and Sufficiency*; with a temperature: Hinton, Vinyals and "
        "Dean 2015, *Distilling the Knowledge in a Neural Network*",
        "focal: Lin, Goyal, Girshick, He and Dollár 2017, *Focal Loss for Dense Object Detection*",
        "hinge: Cortes and Vapnik 1995, *Support-Vector Networks*",
        "InfoNCE: van den Oord, Li and Vinyals 2018, *Representation Learning with Contrastive Predictive Coding*; "
        "symmetric: Radford et al. 2021, *Learning Transferable Visual Models From Natural Language Supervision*",
        "CTC: Graves, Fernández, Gomez and Schmidhuber 2006, *Connectionist Temporal Classification: Labelling "
        "Unsegmented Sequence Data with Recurrent Neural Networks*",
        "LeCun's initialisation: LeCun, Bottou, Orr and Müller 1998, *Efficient BackProp*",
        "orthogonal initialisation: Saxe, McClelland and Ganguli 2014, *Exact Solutions to the Nonlinear Dynamics "
        "of Learning in Deep Linear Neural Networks*",
    ),
    "optim.sgd": ("Robbins and Monro 1951, *A Stochastic Approximation Method*",),
    "optim.momentum": ("Polyak 1964, *Some Methods of Speeding up the Convergence of Iteration Methods*",),
    "optim.adam": (
        "Kingma and Ba 2015, *Adam: A Method for Stochastic Optimization*",
        "AdamW: Loshchilov and Hutter 2019, *Decoupled Weight Decay Regularization*",
    ),
    "optim.rmsprop_adagrad": (
        "RMSprop: Tieleman and Hinton 2012, *Neural Networks for Machine Learning*, lecture 6.5",
        "AdaGrad: Duchi, Hazan and Singer 2011, *Adaptive Subgradient Methods for Online Learning and Stochastic "
        "Optimization*",
    ),
    "optim.schedules_clipping": (
        "clipping: Pascanu, Mikolov and Bengio 2013, *On the Difficulty of Training Recurrent Neural Networks*",
        "cosine: Loshchilov and Hutter 2017, *SGDR: Stochastic Gradient Descent with Warm Restarts*",
    ),
    "probability.bayes": ("Bayes 1763, *An Essay towards Solving a Problem in the Doctrine of Chances*",),
    "probability.distributions": (
        "binomial and Poisson: Loader 2000, *Fast and Accurate Computation of Binomial Probabilities*",
    ),
    "statistics.tests": (
        "unequal variances: Welch 1947, *The Generalization of 'Student's' Problem when Several Different "
        "Population Variances are Involved*",
        "χ²: Pearson 1900, *On the Criterion that a Given System of Deviations from the Probable in the Case of a "
        "Correlated System of Variables Is Such that It Can Be Reasonably Supposed to Have Arisen from Random "
        "Sampling*",
        "permutations: Fisher 1935, *The Design of Experiments*",
    ),
    "probability.bayes_by_backprop": (
        "Blundell, Cornebise, Kavukcuoglu and Wierstra 2015, *Weight Uncertainty in Neural Networks*",
    ),
    "data.augmentation": (
        "Simard, Steinkraus and Platt 2003, *Best Practices for Convolutional Neural Networks Applied to Visual "
        "Document Analysis*",
    ),
    "information.entropy_kl": (
        "entropy: Shannon 1948, *A Mathematical Theory of Communication*",
        "KL: Kullback and Leibler 1951, *On Information and Sufficiency*",
    ),
    "information.mutual": (
        "Shannon 1948, *A Mathematical Theory of Communication*",
        "a bound from samples: van den Oord, Li and Vinyals 2018, *Representation Learning with Contrastive "
        "Predictive Coding*",
    ),
    "information.vae_vib": (
        "VAE: Kingma and Welling 2014, *Auto-Encoding Variational Bayes*",
        "VIB: Alemi, Fischer, Dillon and Murphy 2017, *Deep Variational Information Bottleneck*",
    ),
}
